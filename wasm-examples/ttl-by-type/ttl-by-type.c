/* ttl-by-type: lifetime by content type and path; nothing stored for users who
 * are logged in.
 *
 *   - a request with a session cookie ("session=" or "sid=") is not stored;
 *   - /static/ lives for a year, with 60 s of stale-while-revalidate;
 *   - images and fonts for a day, CSS and scripts for an hour, HTML for "html"
 *     seconds (configuration, default 30), JSON for 5;
 *   - errors (status 400 and up) for at most 5 seconds;
 *   - all else as computed from the response.
 */
#include "edge.h"

EDGE_MANIFEST({"name" : "ttl-by-type", "hooks" : ["ttl"], "headers" : ["cookie"], "response_headers" : ["content-type"]});

enum { COOKIE, TYPE = EDGE_RESPONSE };

static u32 html;

i32 EDGE_EXPORT(edge_init)(u32 len) {
  html = edge_config_u32(len, S("\"html\""), 30);
  return 0;
}

/* The name must start the field or follow a separator. */
static int has_cookie(edge_str all, edge_str name) {
  for (u32 i = 0; i < all.n; i++) {
    if (i > 0 && all.p[i - 1] != ' ' && all.p[i - 1] != ';') continue;
    if (edge_prefix(edge_skip(all, i), name)) return 1;
  }
  return 0;
}

static int logged_in(void) {
  const edge_head *h = edge_input();
  if (h->flags & EDGE_TRUNCATED) return 1; /* the cookie may have been cut off */
  for (u32 i = 0; i < h->header_count; i++) {
    u32 name;
    edge_str line = edge_line(i, &name);
    if (name == COOKIE && (has_cookie(line, S("session=")) || has_cookie(line, S("sid=")))) return 1;
  }
  return 0;
}

static u32 lifetime(edge_str type) {
  if (edge_prefix_fold(type, S("image/")) || edge_prefix_fold(type, S("font/"))) return 86400;
  if (edge_prefix_fold(type, S("text/css")) || edge_prefix_fold(type, S("text/javascript")) ||
      edge_prefix_fold(type, S("application/javascript")))
    return 3600;
  if (edge_prefix_fold(type, S("text/html"))) return html;
  if (edge_prefix_fold(type, S("application/json"))) return 5;
  return EDGE_AS_COMPUTED;
}

i64 EDGE_EXPORT(edge_on_ttl)(u32 len) {
  (void)len;
  const edge_head *h = edge_input();
  if (logged_in()) return edge_result(EDGE_OK, EDGE_NO_STORE, EDGE_AS_COMPUTED);
  if (h->status >= 400) {
    u32 s = h->flags & EDGE_LIFETIME_KNOWN && h->lifetime < 5 ? h->lifetime : 5;
    return edge_result(EDGE_OK, 0, s);
  }
  if (edge_prefix(edge_path(), S("/static/"))) {
    edge_records_begin();
    edge_stale(60, EDGE_AS_COMPUTED);
    return edge_done(EDGE_OK, 0, 31536000);
  }
  return edge_result(EDGE_OK, 0, lifetime(edge_get_header(TYPE)));
}
