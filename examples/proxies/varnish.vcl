# /etc/varnish/default.vcl. The streams' Cache-Control keeps them out of the cache.
vcl 4.1;

backend default {
	.host = "127.0.0.1";
	.port = "3000";
}

sub vcl_recv {
	if (req.url ~ "^/events") {
		return (pipe); # or it is noticed only at the third write that a client has left
	}
}
