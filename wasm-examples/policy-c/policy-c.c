/* policy-c: one policy with all four hooks, the same in every language.
 *
 * route: 403 for /internal/ without a client certificate; /live/ is passed; x-tenant
 *   chooses the pool ("eu…" the first, "us…" the second) and becomes part of the key.
 * ttl: nothing is stored with a session cookie; errors live 5 s, /static/ a year with
 *   60 s of stale-while-revalidate, images a day, HTML "html" seconds (default 30).
 * evict: what is used often per byte and was used lately stays, as in evict-gdsf.
 * admit: a newcomer must score above the worst of those that would leave.
 */
#include "edge.h"

EDGE_MANIFEST({"name" : "policy-c", "hooks" : [ "route", "ttl", "evict", "admit" ], "headers" : [ "x-tenant", "cookie" ], "response_headers" : ["content-type"], "guards" : true});

enum { TENANT, COOKIE, TYPE = EDGE_RESPONSE };

static u32 html;

i32 EDGE_EXPORT(edge_init)(u32 len) {
  html = edge_config_u32(len, S("\"html\""), 30);
  return 0;
}

i64 EDGE_EXPORT(edge_on_route)(u32 len) {
  (void)len;
  edge_str path = edge_path();
  if (edge_prefix(path, S("/internal/")) && !(edge_input()->flags & EDGE_CLIENT_CERT)) return edge_deny(403, S("internal"));
  if (edge_prefix(path, S("/live/"))) return edge_result(EDGE_PASS, 0, 0);
  edge_str tenant = edge_get_header(TENANT);
  if (!tenant.p) return edge_result(EDGE_DEFAULT, 0, 0);
  if (tenant.n < 1 || tenant.n > 32) return edge_deny(400, S("bad tenant"));
  u32 pool = edge_prefix(tenant, S("eu")) ? 1 : edge_prefix(tenant, S("us")) ? 2 : 0;
  edge_records_begin();
  edge_key_addition(tenant);
  return edge_done(EDGE_OK, 0, pool);
}

static int logged_in(void) {
  const edge_head *h = edge_input();
  if (h->flags & EDGE_TRUNCATED) return 1; /* the cookie may have been cut off */
  for (u32 i = 0; i < h->header_count; i++) {
    u32 name;
    edge_str value = edge_line(i, &name);
    if (name == COOKIE && edge_contains(value, S("session="))) return 1;
  }
  return 0;
}

i64 EDGE_EXPORT(edge_on_ttl)(u32 len) {
  (void)len;
  if (logged_in()) return edge_result(EDGE_OK, EDGE_NO_STORE, EDGE_AS_COMPUTED);
  if (edge_input()->status >= 400) return edge_result(EDGE_OK, 0, 5);
  if (edge_prefix(edge_path(), S("/static/"))) {
    edge_records_begin();
    edge_stale(60, EDGE_AS_COMPUTED);
    return edge_done(EDGE_OK, 0, 31536000);
  }
  edge_str type = edge_get_header(TYPE);
  if (edge_prefix(type, S("image/"))) return edge_result(EDGE_OK, 0, 86400);
  if (edge_prefix(type, S("text/html"))) return edge_result(EDGE_OK, 0, html);
  return edge_result(EDGE_DEFAULT, 0, 0);
}

/* log2 of v in 1/256, v > 0, straight between powers of two. */
static inline i32 log2_256(u32 v) {
  u32 zeros = (u32)__builtin_clz(v);
  return (i32)((31 - zeros) << 8 | (v << zeros >> 23 & 255));
}

static inline i32 score(const edge_candidate *c) {
  if (c->left_s == 0) return -2000000000;
  u32 uses = c->hits == 0xffffffffu ? c->hits : c->hits + 1;
  return log2_256(uses) - log2_256(c->size | 1) - log2_256(c->idle_ms / 1024 + 1);
}

i64 EDGE_EXPORT(edge_on_evict)(u32 len) {
  (void)len;
  u32 n = edge_candidate_count();
  for (u32 i = 0; i < n; i++) edge_scores()[i] = score(&edge_candidates()[i]);
  return edge_result(EDGE_OK, 0, n);
}

i64 EDGE_EXPORT(edge_on_admit)(u32 len) {
  (void)len;
  u32 n = edge_candidate_count();
  const edge_candidate *c = edge_candidates();
  i32 worst = 0x7fffffff;
  for (u32 i = 1; i < n; i++) {
    i32 s = score(&c[i]);
    if (s < worst) worst = s;
  }
  return edge_result(EDGE_OK, 0, n < 2 || score(&c[0]) > worst);
}
