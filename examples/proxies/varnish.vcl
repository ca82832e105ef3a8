# /etc/varnish/default.vcl. Nothing is needed for the streams: their Cache-Control keeps them out of the cache.
vcl 4.1;

backend default {
	.host = "127.0.0.1";
	.port = "3000";
}
