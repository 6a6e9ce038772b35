/* edge.h: hooks for edgenode in C, ABI 1. See hooks/abi/ABI.md.
 *
 * Build: clang --target=wasm32-unknown-unknown -nostdlib -O2 -I hooks/guest/c \
 *        -Wl,--no-entry -Wl,-z,stack-size=8192 -Wl,--initial-memory=65536 x.c -o x.wasm
 *
 * Include this file in exactly one C file. It defines edge_abi_version and
 * edge_alloc_buf; define edge_init, at least one of edge_on_route, edge_on_ttl,
 * edge_on_evict, edge_on_admit, and say EDGE_MANIFEST({...}) once. Nothing here
 * allocates; memory does not grow.
 */
#ifndef EDGE_H
#define EDGE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int i32;
typedef signed long long i64;

#define EDGE_EXPORT(name) __attribute__((export_name(#name))) name
#define EDGE_IMPORT(name) __attribute__((import_module("edge"), import_name(#name)))

/* The manifest, JSON, as custom section edge.manifest. */
#define EDGE_STR(...) #__VA_ARGS__
#define EDGE_QUOTE(s) EDGE_STR(s)
#define EDGE_MANIFEST(...)                                                     \
  __asm__(".section .custom_section.edge.manifest,\"\",@\n\t.ascii " EDGE_QUOTE( \
      EDGE_STR(__VA_ARGS__)) "\n\t.text\n")

enum { EDGE_OK, EDGE_DEFAULT, EDGE_PASS, EDGE_DENY, EDGE_ERROR };
enum { EDGE_ROUTE = 1, EDGE_TTL, EDGE_EVICT, EDGE_ADMIT };
enum { EDGE_READ = 1, EDGE_WRITE, EDGE_DELETE, EDGE_PURGE };
enum { EDGE_L1 = 1, EDGE_L2 = 2, EDGE_L3 = 4 };
enum { EDGE_TRUNCATED = 1, EDGE_TLS = 2, EDGE_SITE = 4, EDGE_LIFETIME_KNOWN = 8, EDGE_CLIENT_CERT = 16 };
enum { EDGE_RECORDS = 1, EDGE_NO_STORE = 2 };
enum {
  EDGE_REC_KEY = 1, EDGE_REC_TARGET, EDGE_REC_TAG, EDGE_REC_STATE, EDGE_REC_TIERS, EDGE_REC_LIFETIMES,
  EDGE_REC_STALE, EDGE_REC_STATUS, EDGE_REC_REUSE, EDGE_REC_SET_REQUEST, EDGE_REC_SET_RESPONSE,
  EDGE_REC_REMOVE, EDGE_REC_ANSWER
};
#define EDGE_AS_COMPUTED 0xffffffffu
#define EDGE_RESPONSE 0x8000

/* The input head. Appended fields of later minor versions lie between it and
 * what follows: use edge_candidates and the offsets, never sizeof. */
typedef struct {
  u16 head_len;
  u8 hook, operation, method, tiers;
  u16 flags;
  u64 now_ms, content_bytes;
  u32 key_off, key_len, headers_off;
  u16 header_count, status;
  u32 lifetime, hits;
  u8 client[16];
} edge_head;

typedef struct { u16 name, len; u32 off; } edge_header;

typedef struct {
  u64 id;
  u32 size, age_s, idle_ms, hits, left_s;
  u16 flags, tag_class;
} edge_candidate;

_Static_assert(sizeof(edge_head) == 64, "input head");
_Static_assert(sizeof(edge_header) == 8, "header entry");
_Static_assert(sizeof(edge_candidate) == 32, "candidate");

/* A view of bytes in the input. */
typedef struct { const u8 *p; u32 n; } edge_str;

#define EDGE_MAX_BUF (24 * 1024)
static u8 edge_buf[EDGE_MAX_BUF] __attribute__((aligned(8)));
static u32 edge_out_off, edge_out_end, edge_out_at;

i32 EDGE_EXPORT(edge_abi_version)(void) { return 1 << 16; }

u8 *EDGE_EXPORT(edge_alloc_buf)(u32 in, u32 out) {
  if (in > EDGE_MAX_BUF || out > EDGE_MAX_BUF - in) return 0;
  edge_out_off = in;
  edge_out_end = in + out;
  return edge_buf;
}

static inline i64 edge_result(u32 status, u32 flags, u32 value) {
  return (i64)((u64)status << 56 | (u64)flags << 32 | value);
}

static inline const edge_head *edge_input(void) { return (const edge_head *)edge_buf; }

static inline edge_str edge_key(void) {
  const edge_head *h = edge_input();
  return (edge_str){edge_buf + h->key_off, h->key_len};
}

/* The first line of header number name (EDGE_RESPONSE | n for the response's);
 * p is 0 if there is none. */
static inline edge_str edge_get_header(u32 name) {
  const edge_head *h = edge_input();
  const edge_header *e = (const edge_header *)(edge_buf + h->headers_off);
  for (u32 i = 0; i < h->header_count; i++)
    if (e[i].name == name) return (edge_str){edge_buf + e[i].off, e[i].len};
  return (edge_str){0, 0};
}

/* Candidates of an evict or admit block. */
static inline u32 edge_candidate_count(void) { return *(const u32 *)(edge_buf + edge_input()->head_len); }
static inline u32 edge_pressure(void) { return *(const u32 *)(edge_buf + edge_input()->head_len + 4); }
static inline const edge_candidate *edge_candidates(void) {
  return (const edge_candidate *)(edge_buf + edge_input()->head_len + 8);
}
static inline i32 *edge_scores(void) { return (i32 *)(edge_buf + edge_out_off); }

/* Records: edge_records_begin, edge_put for each, edge_records_end. A record that
 * does not fit is left out and edge_records_end returns 0. */
static inline void edge_records_begin(void) { edge_out_at = edge_out_off; }

static inline u8 *edge_put(u32 type, u32 len) {
  u32 size = (4 + len + 7) & ~7u;
  if (edge_out_at > edge_out_end || size + 8 > edge_out_end - edge_out_at) {
    edge_out_at = edge_out_end + 1;
    return 0;
  }
  u8 *p = edge_buf + edge_out_at;
  *(u32 *)p = type | len << 16;
  edge_out_at += size;
  return p + 4;
}

static inline void edge_put_bytes(u32 type, const u8 *b, u32 len) {
  u8 *p = edge_put(type, len);
  if (p)
    for (u32 i = 0; i < len; i++) p[i] = b[i];
}

static inline int edge_records_end(void) {
  if (edge_out_at > edge_out_end) return 0;
  *(u64 *)(edge_buf + edge_out_at) = 0;
  return 1;
}

/* Byte strings. S("text") makes one of a literal. */
#define S(lit) ((edge_str){(const u8 *)(lit), sizeof(lit) - 1})

static inline u64 edge_load64(const u8 *p) {
  u64 v;
  __builtin_memcpy(&v, p, 8);
  return v;
}

/* Compares words; with a literal nothing of it is left to be done at run time. */
static inline int edge_prefix(edge_str s, edge_str with) {
  u32 i = 0;
  if (s.n < with.n) return 0;
  for (; i + 8 <= with.n; i += 8)
    if (edge_load64(s.p + i) != edge_load64(with.p + i)) return 0;
  for (; i < with.n; i++)
    if (s.p[i] != with.p[i]) return 0;
  return 1;
}

static inline int edge_equal(edge_str a, edge_str b) { return a.n == b.n && edge_prefix(a, b); }

/* As edge_prefix, ignoring the case of ASCII letters; with is in lower case. */
static inline int edge_prefix_fold(edge_str s, edge_str with) {
  if (s.n < with.n) return 0;
  for (u32 i = 0; i < with.n; i++) {
    u8 c = s.p[i];
    if (c >= 'A' && c <= 'Z') c |= 0x20;
    if (c != with.p[i]) return 0;
  }
  return 1;
}

static inline int edge_contains(edge_str s, edge_str what) {
  for (; s.n >= what.n; s.p++, s.n--)
    if (edge_prefix(s, what)) return 1;
  return 0;
}

static inline edge_str edge_skip(edge_str s, u32 n) { return (edge_str){s.p + n, s.n - n}; }

/* Path and query of a site's key (scheme://host/path?query); the id otherwise. */
static inline edge_str edge_path(void) {
  edge_str k = edge_key();
  if (!(edge_input()->flags & EDGE_SITE)) return k;
  u32 slashes = 0;
  for (u32 i = 0; i < k.n; i++)
    if (k.p[i] == '/' && ++slashes == 3) return edge_skip(k, i);
  return edge_skip(k, k.n);
}

/* A number from the configuration, flat JSON in the input area at edge_init:
 * {"key": 12}. Quoted is the key with its quotes. */
static inline u32 edge_config_u32(u32 len, edge_str quoted, u32 absent) {
  edge_str s = {edge_buf, len};
  while (s.n >= quoted.n && !edge_prefix(s, quoted)) s = edge_skip(s, 1);
  if (s.n < quoted.n) return absent;
  s = edge_skip(s, quoted.n);
  while (s.n && (*s.p == ' ' || *s.p == ':')) s = edge_skip(s, 1);
  if (!s.n || *s.p < '0' || *s.p > '9') return absent;
  u32 v = 0;
  for (; s.n && *s.p >= '0' && *s.p <= '9'; s = edge_skip(s, 1)) v = v * 10 + (*s.p - '0');
  return v;
}

/* Host functions; edge_h_header and edge_h_kv_get need a capability and a grant. */
EDGE_IMPORT(log) void edge_h_log(u32 level, const u8 *text, u32 len);
EDGE_IMPORT(metric_add) void edge_h_metric_add(u32 id, i64 n);
EDGE_IMPORT(metric_observe) void edge_h_metric_observe(u32 id, double v);
EDGE_IMPORT(now_ms) u64 edge_h_now_ms(void);
EDGE_IMPORT(header) i32 edge_h_header(u32 response, const u8 *name, u32 len, u8 *buf, u32 cap);
EDGE_IMPORT(config) i32 edge_h_config(const u8 *key, u32 len, u8 *buf, u32 cap);
EDGE_IMPORT(kv_get) i32 edge_h_kv_get(const u8 *key, u32 len, u8 *buf, u32 cap);
EDGE_IMPORT(tag_add) i32 edge_h_tag_add(const u8 *tag, u32 len);

#endif
