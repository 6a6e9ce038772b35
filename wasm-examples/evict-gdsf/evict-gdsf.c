/* evict-gdsf: scores in the manner of GDSF (Cherkasova, "Improving WWW Proxies
 * Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998): what
 * is used often per byte stays. In place of GDSF's running clock, which a guest
 * without memory of its evictions cannot keep, the value is divided by the time
 * since the last use. All in integers: score = log2 of hits / (size * idle), in
 * 1/256. Expired items score lowest.
 *
 * Configuration: { "size_weight" = 256 } in 1/256; less keeps bigger items.
 */
#include "edge.h"

EDGE_MANIFEST({"name" : "evict-gdsf", "hooks" : [ "evict", "admit" ]});

static u32 size_weight;

i32 EDGE_EXPORT(edge_init)(u32 len) {
  size_weight = edge_config_u32(len, S("\"size_weight\""), 256);
  return size_weight > 1024;
}

/* log2 of v in 1/256, v > 0: the exponent, and the mantissa as a straight line
 * between powers of two. */
static inline i32 log2_256(u32 v) {
  u32 zeros = __builtin_clz(v);
  return (i32)((31 - zeros) << 8 | (v << zeros >> 23 & 255));
}

static inline i32 score(const edge_candidate *c) {
  if (c->left_s == 0) return -2000000000;
  i32 use = log2_256(c->hits == 0xffffffffu ? c->hits : c->hits + 1);
  i32 size = log2_256(c->size | 1);
  i32 idle = log2_256(c->idle_ms / 1024 + 1);
  return use - (size * (i32)size_weight >> 8) - idle;
}

i64 EDGE_EXPORT(edge_on_evict)(u32 len) {
  (void)len;
  u32 n = edge_candidate_count();
  const edge_candidate *c = edge_candidates();
  edge_i32 *out = edge_scores();
  for (u32 i = 0; i < n; i++) out[i] = score(&c[i]);
  return edge_result(EDGE_OK, 0, n);
}

/* A newcomer comes in if it scores above the worst victim. */
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
