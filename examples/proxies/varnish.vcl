# /etc/varnish/default.vcl. The Cache-Control header of each answer of a router keeps it out of the cache.
vcl 4.1;

backend default {
	.host = "127.0.0.1";
	.port = "3000";
}

sub vcl_recv {
	if (req.url ~ "^/events") {
		return (pipe); # without it, a disconnected client is noticed only at the third write
	}
}
