/* The vector guest in C: see README.md in this folder. */
#include "edge.h"

EDGE_MANIFEST({"name" : "vectors-c", "hooks" : [ "route", "ttl", "evict", "admit" ], "headers" : [ "x-a", "x-b", "x-c", "x-d" ], "response_headers" : [ "content-type", "x-r" ], "capabilities" : [ "header", "kv_get" ], "fuel" : {"route" : 20000000}, "metrics" : [ {"name" : "seen", "kind" : "counter"}, {"name" : "size", "kind" : "histogram"} ]});

static u8 dump[1024];
static u32 at;

static u32 fnv(edge_str s) {
  u32 h = 2166136261u;
  for (u32 i = 0; i < s.n; i++) h = (h ^ s.p[i]) * 16777619u;
  return h;
}

static void number(u64 v, u32 bytes) {
  for (; bytes > 0; bytes--, v >>= 8) dump[at++] = (u8)v;
}

static void look_up(u32 name) {
  edge_str v = edge_get_header(name);
  number(v.p ? v.n : 0xffffffffu, 4);
  number(v.p ? fnv(v) : 0, 4);
}

static edge_str dump_input(void) {
  const edge_head *h = edge_input();
  at = 0;
  number(h->operation, 1);
  number(h->method, 1);
  number(h->tiers, 1);
  number(0, 1);
  number(h->flags, 2);
  number(h->status, 2);
  number(h->now_ms, 8);
  number(h->content_bytes, 8);
  number(h->flags & EDGE_LIFETIME_KNOWN ? h->lifetime : 0, 4);
  number(h->hits, 4);
  for (u32 i = 0; i < 16; i++) number(h->client[i], 1);
  number(edge_path().n, 4);
  number(edge_key().n, 4);
  number(fnv(edge_key()), 4);
  number(h->header_count, 4);
  for (u32 i = 0; i < h->header_count; i++) {
    u32 name;
    edge_str v = edge_line(i, &name);
    number(name, 2);
    number(v.n, 2);
    number(fnv(v), 4);
  }
  look_up(0);
  look_up(1);
  look_up(EDGE_RESPONSE);
  look_up(EDGE_RESPONSE | 1);
  return (edge_str){dump, at};
}

i32 EDGE_EXPORT(edge_init)(u32 len) { return edge_config_u32(len, S("\"refuse\""), 0) != 0; }

static i64 each_of_route(void) {
  edge_records_begin();
  edge_key_addition(S("eu"));
  edge_target(S("/b?c=d"));
  edge_tag(S("news"));
  edge_state(S("hot-1"));
  edge_tiers(EDGE_L1, EDGE_L1 | EDGE_L2 | EDGE_L3);
  edge_put_u16(EDGE_REC_STATUS, 429, S("slow down"), EDGE_NONE);
  edge_reuse(60);
  edge_set_request(S("X-Variant"), S("b"));
  edge_set_response(S("x-served-by"), S(""));
  edge_remove_request(S("Cookie"));
  edge_field type = {S("content-type"), S("text/plain")};
  edge_answer(200, &type, 1, S("hi"));
  return edge_done(EDGE_DENY, 0, 0);
}

static i64 too_much(void) {
  edge_records_begin();
  for (u32 i = 0; i < 3000; i++) edge_tag(S("tag"));
  return edge_done(EDGE_OK, 0, 0);
}

/* Asks the host everything and answers with what it said. */
static i64 host(void) {
  static u8 b[64];
  at = 0;
  edge_h_log(1, S("hello from the guest").p, 20);
  edge_h_metric_add(0, 2);
  edge_h_metric_observe(1, 0.5);
  number(edge_h_now_ms(), 8);
  i32 n = edge_h_header(0, S("x-unlisted").p, 10, b, 64);
  number((u32)n, 4);
  number(fnv((edge_str){b, n < 0 ? 0 : (u32)n}), 4);
  n = edge_h_header(0, S("x-absent").p, 8, b, 64);
  number((u32)n, 4);
  n = edge_h_config(S("greeting").p, 8, b, 64);
  number((u32)n, 4);
  number(fnv((edge_str){b, n < 0 ? 0 : (u32)n}), 4);
  n = edge_h_kv_get(S("uk/1").p, 4, b, 2); /* copies what fits, says how long it is */
  number((u32)n, 4);
  number(fnv((edge_str){b, 2}), 4);
  number((u32)edge_h_tag_add(S("added").p, 5), 4);
  number((u32)edge_h_tag_add(S("no,tag").p, 6), 4);
  edge_records_begin();
  edge_answer(200, 0, 0, (edge_str){dump, at});
  return edge_done(EDGE_OK, 0, 0);
}

i64 EDGE_EXPORT(edge_on_route)(u32 len) {
  (void)len;
  edge_str k = edge_key();
  if (edge_equal(k, S("vector:route"))) return each_of_route();
  if (edge_equal(k, S("vector:deny"))) return edge_deny(429, S("slow down"));
  if (edge_equal(k, S("vector:pass"))) return edge_result(EDGE_PASS, 0, 0);
  if (edge_equal(k, S("vector:pool"))) return edge_result(EDGE_OK, 0, 2 + 1);
  if (edge_equal(k, S("vector:default"))) return edge_result(EDGE_DEFAULT, 0, 0);
  if (edge_equal(k, S("vector:error"))) return edge_result(EDGE_ERROR, 0, 0);
  if (edge_equal(k, S("vector:full"))) return too_much();
  if (edge_equal(k, S("vector:host"))) return host();
  edge_str d = dump_input();
  edge_records_begin();
  edge_answer(200, 0, 0, d);
  return edge_done(EDGE_OK, 0, 0);
}

i64 EDGE_EXPORT(edge_on_ttl)(u32 len) {
  (void)len;
  if (edge_equal(edge_key(), S("vector:ttl"))) {
    static u8 t[256];
    for (u32 i = 0; i < 256; i++) t[i] = 't';
    edge_records_begin();
    edge_tag((edge_str){t, 256});
    edge_lifetimes(1, 2, EDGE_AS_COMPUTED);
    edge_stale(60, EDGE_AS_COMPUTED);
    return edge_done(EDGE_OK, 0, 60);
  }
  if (edge_equal(edge_key(), S("vector:no-store"))) return edge_result(EDGE_OK, EDGE_NO_STORE, EDGE_AS_COMPUTED);
  return edge_result(EDGE_OK, 0, fnv(dump_input()));
}

static u32 digest(const edge_candidate *c) {
  at = 0;
  number(c->id, 8);
  number(c->size, 4);
  number(c->age_s, 4);
  number(c->idle_ms, 4);
  number(c->hits, 4);
  number(c->left_s, 4);
  number(c->flags, 2);
  number(c->tag_class, 2);
  number(edge_pressure(), 4);
  return fnv((edge_str){dump, at});
}

i64 EDGE_EXPORT(edge_on_evict)(u32 len) {
  (void)len;
  u32 n = edge_candidate_count();
  for (u32 i = 0; i < n; i++) edge_scores()[i] = (i32)digest(&edge_candidates()[i]);
  return edge_result(EDGE_OK, 0, n);
}

i64 EDGE_EXPORT(edge_on_admit)(u32 len) {
  (void)len;
  u32 yes = 0;
  for (u32 i = 0; i < edge_candidate_count(); i++) yes ^= digest(&edge_candidates()[i]);
  return edge_result(EDGE_OK, 0, yes & 1);
}
