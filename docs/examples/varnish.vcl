vcl 4.1;

# Varnish as a cache in front of cache-server:
#   varnishd -a 127.0.0.1:8000 -f varnish.vcl -s malloc,1g -p http_gzip_support=off
# cache-server at 127.0.0.1:8080. Tried with Varnish 7.1 by tests/cdn_in_front.rs. What the route of
# cache-server needs for it:
#
#   scope = "shared"
#   allow_unverified_callers = true
#   [route.emit]
#   browser = "1m"
#   cdn = "1h"
#   cdn_stale_while_revalidate = "1m"
#   cdn_stale_if_error = "1d"
#   cdn_fields = ["Surrogate-Control"]
#   tag_fields = ["Surrogate-Key"]
#
# http_gzip_support=off leaves bytes and Accept-Encoding as they are. With it, Varnish asks for gzip
# alone, keeps one variant and unpacks it for others.

import std;

backend default {
    .host = "127.0.0.1:8080";
    .connect_timeout = 5s;
    .first_byte_timeout = 11m;      # above read_timeout: models think for minutes
    .between_bytes_timeout = 11m;
}

# Who may purge.
acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.restarts == 0) {
        # Ours alone, see vcl_hit: "ask-first", then "may".
        unset req.http.X-Stale;
    }
    if (req.method == "BAN") {
        call purge_by_tag;
    }
    if (req.http.Upgrade ~ "(?i)^websocket$") {
        return (pipe);
    }
    # Model calls and writes go past the cache, and so do event streams. What passes is not buffered.
    if ((req.method != "GET" && req.method != "HEAD") || req.http.Accept ~ "(?i)text/event-stream") {
        return (pass);
    }
    # What is compared alike is kept once.
    if (req.http.Accept-Encoding ~ "(?i)(^|[ ,])br($|[ ,;])") {
        set req.http.Accept-Encoding = "br";
    } elsif (req.http.Accept-Encoding ~ "(?i)(^|[ ,])gzip($|[ ,;])") {
        set req.http.Accept-Encoding = "gzip";
    } else {
        unset req.http.Accept-Encoding;
    }
    # Requests with Authorization or a Cookie too: vcl_backend_response keeps only what is for all.
    return (hash);
}

# curl -X BAN -H 'Surrogate-Key: page-1' http://127.0.0.1:8000/ after the same order to cache-server.
# One tag at a time, of these characters: of others a pattern could be made.
sub purge_by_tag {
    if (client.ip !~ purgers) {
        return (synth(403));
    }
    if (req.http.Surrogate-Key !~ "^[A-Za-z0-9_.:/-]+$") {
        return (synth(400, "One tag in Surrogate-Key"));
    }
    if (!std.ban("obj.http.Surrogate-Key ~ (^|\s)" + req.http.Surrogate-Key + "(\s|$)")) {
        return (synth(500, std.ban_error()));
    }
    return (synth(200, "Purged"));
}

sub vcl_pipe {
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = "upgrade";
    return (pipe);
}

# What is fresh answers, and so does what is stale while it may be refreshed behind that. After this
# time it may answer if there is an error: so cache-server is asked first, and if that fails the request
# comes back for what is stale.
sub vcl_hit {
    if (obj.ttl >= 0s || req.http.X-Stale == "may") {
        return (deliver);
    }
    if (obj.ttl + std.duration(regsub(obj.http.Surrogate-Control,
        "^(?:.*stale-while-revalidate=(\d+))?.*$", "\1s"), 0s) > 0s) {
        return (deliver);
    }
    set req.http.X-Stale = "ask-first";
    set req.grace = 0s;
    return (restart);
}

sub vcl_backend_fetch {
    if (bereq.http.Via) {
        set bereq.http.Via = bereq.http.Via + ", 1.1 varnish";
    } else {
        set bereq.http.Via = "1.1 varnish";
    }
}

# An error that were kept, and be it for no time, would hide what is stale.
sub keep_what_is_stale {
    if (bereq.is_bgfetch || bereq.http.X-Stale == "ask-first") {
        return (abandon);
    }
}

sub vcl_backend_error {
    call keep_what_is_stale;
}

sub vcl_backend_response {
    if (bereq.uncacheable) {
        return (deliver);
    }
    if (beresp.status >= 500) {
        call keep_what_is_stale;
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
        return (deliver);
    }
    # Only what says that it is for all, and for how long, is kept. By itself Varnish would keep for two
    # minutes what says nothing, and knows no credential but Authorization and Cookie.
    if (beresp.http.Cache-Control !~ "(?i)(^|[ ,])public($|[ ,])"
        || beresp.http.Surrogate-Control !~ "(?i)max-age=\d"
        || beresp.http.Set-Cookie || beresp.http.Vary ~ "\*") {
        set beresp.uncacheable = true;
        set beresp.ttl = 2m;            # for so long nobody waits for anybody
        return (deliver);
    }
    set beresp.ttl = std.duration(
        regsub(beresp.http.Surrogate-Control, "(?i)^.*max-age=(\d+).*$", "\1s"), 0s);
    set beresp.grace = std.duration(regsub(beresp.http.Surrogate-Control,
        "^(?:.*stale-while-revalidate=(\d+))?.*$", "\1s"), 0s);
    if (beresp.grace < std.duration(regsub(beresp.http.Surrogate-Control,
        "^(?:.*stale-if-error=(\d+))?.*$", "\1s"), 0s)) {
        set beresp.grace = std.duration(regsub(beresp.http.Surrogate-Control,
            "^(?:.*stale-if-error=(\d+))?.*$", "\1s"), 0s);
    }
    set beresp.keep = 10m;              # to be asked for with its ETag
    return (deliver);
}

sub vcl_synth {
    if (req.http.X-Stale == "ask-first") {
        set req.http.X-Stale = "may";
        set req.grace = 365d;           # its own is shorter
        return (restart);
    }
}

sub vcl_deliver {
    # Varnish's member of Cache-Status (RFC 9211), behind that of cache-server.
    std.collect(resp.http.Cache-Status);
    if (obj.hits > 0 && obj.ttl < 0s) {
        set resp.http.X-Member = "varnish; hit; detail=stale";
    } elsif (obj.hits > 0) {
        set resp.http.X-Member = "varnish; hit";
    } elsif (obj.uncacheable) {
        set resp.http.X-Member = "varnish; fwd=bypass";
    } else {
        set resp.http.X-Member = "varnish; fwd=uri-miss";
    }
    if (resp.http.Cache-Status) {
        set resp.http.Cache-Status = resp.http.Cache-Status + ", " + resp.http.X-Member;
    } else {
        set resp.http.Cache-Status = resp.http.X-Member;
    }
    unset resp.http.X-Member;
    if (!obj.uncacheable) {
        # A browser counts its own time from now. Of the age that Varnish says it would keep nothing.
        unset resp.http.Age;
        set resp.http.Date = now;
        unset resp.http.Surrogate-Control;
        unset resp.http.Surrogate-Key;
    }
    return (deliver);
}
