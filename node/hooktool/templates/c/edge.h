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

/* The areas are bytes that are read and written as numbers too. */
typedef u16 __attribute__((may_alias)) edge_u16;
typedef u32 __attribute__((may_alias)) edge_u32;
typedef u64 __attribute__((may_alias)) edge_u64;
typedef i32 __attribute__((may_alias)) edge_i32;

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
} __attribute__((may_alias)) edge_head;

typedef struct { u16 name, len; u32 off; } __attribute__((may_alias)) edge_header;

typedef struct {
  u64 id;
  u32 size, age_s, idle_ms, hits, left_s;
  u16 flags, tag_class;
} __attribute__((may_alias)) edge_candidate;

/* Compilers turn loops and assignments into calls of these; what is not called is
 * not linked. */
__attribute__((no_builtin("memcpy"))) void *memcpy(void *to, const void *from, unsigned long n) {
  for (unsigned long i = 0; i < n; i++) ((u8 *)to)[i] = ((const u8 *)from)[i];
  return to;
}

__attribute__((no_builtin("memset"))) void *memset(void *to, int c, unsigned long n) {
  for (unsigned long i = 0; i < n; i++) ((u8 *)to)[i] = (u8)c;
  return to;
}

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

/* Header line i of header_count: name gets its number, with EDGE_RESPONSE for one
 * of the response. */
static inline edge_str edge_line(u32 i, u32 *name) {
  const edge_header *e = (const edge_header *)(edge_buf + edge_input()->headers_off) + i;
  *name = e->name;
  return (edge_str){edge_buf + e->off, e->len};
}

/* Candidates of an evict or admit block. */
static inline u32 edge_candidate_count(void) { return *(const edge_u32 *)(edge_buf + edge_input()->head_len); }
static inline u32 edge_pressure(void) { return *(const edge_u32 *)(edge_buf + edge_input()->head_len + 4); }
static inline const edge_candidate *edge_candidates(void) {
  return (const edge_candidate *)(edge_buf + edge_input()->head_len + 8);
}
static inline edge_i32 *edge_scores(void) { return (edge_i32 *)(edge_buf + edge_out_off); }

/* Records: edge_records_begin, edge_put for each, edge_records_end. A record that
 * does not fit is left out and edge_records_end returns 0. */
static inline void edge_records_begin(void) { edge_out_at = edge_out_off; }

static inline u8 *edge_put(u32 type, u32 len) {
  u32 size = (4 + len + 7) & ~7u;
  if (len > 0xffff || edge_out_at > edge_out_end || size + 8 > edge_out_end - edge_out_at) {
    edge_out_at = edge_out_end + 1;
    return 0;
  }
  u8 *p = edge_buf + edge_out_at;
  *(edge_u64 *)(p + size - 8) = 0;
  *(edge_u32 *)p = type | len << 16;
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
  *(edge_u64 *)(edge_buf + edge_out_at) = 0;
  return 1;
}

/* Byte strings. S("text") makes one of a literal. */
#define S(lit) ((edge_str){(const u8 *)(lit), sizeof(lit) - 1})

/* What a hook decides besides status and value, one record each, after
 * edge_records_begin; edge_done closes them. */
static inline void edge_put_str(u32 type, edge_str s) { edge_put_bytes(type, s.p, s.n); }
static inline void edge_key_addition(edge_str s) { edge_put_str(EDGE_REC_KEY, s); }
static inline void edge_target(edge_str s) { edge_put_str(EDGE_REC_TARGET, s); }
static inline void edge_tag(edge_str s) { edge_put_str(EDGE_REC_TAG, s); }
static inline void edge_state(edge_str s) { edge_put_str(EDGE_REC_STATE, s); }

static inline void edge_tiers(u32 read, u32 write) {
  u8 *p = edge_put(EDGE_REC_TIERS, 2);
  if (p) p[0] = (u8)read, p[1] = (u8)write;
}

static inline void edge_lifetimes(u32 l1, u32 l2, u32 l3) {
  edge_u32 *p = (edge_u32 *)edge_put(EDGE_REC_LIFETIMES, 12);
  if (p) p[0] = l1, p[1] = l2, p[2] = l3;
}

static inline void edge_stale(u32 while_revalidate, u32 if_error) {
  edge_u32 *p = (edge_u32 *)edge_put(EDGE_REC_STALE, 8);
  if (p) p[0] = while_revalidate, p[1] = if_error;
}

static inline void edge_reuse(u32 seconds) {
  edge_u32 *p = (edge_u32 *)edge_put(EDGE_REC_REUSE, 4);
  if (p) *p = seconds;
}

static inline u8 *edge_copy(u8 *to, edge_str s) {
  for (u32 i = 0; i < s.n; i++) to[i] = s.p[i];
  return to + s.n;
}

/* A u16 and one or two strings: status, set and remove. */
static inline void edge_put_u16(u32 type, u32 number, edge_str a, edge_str b) {
  u8 *p = edge_put(type, 2 + a.n + b.n);
  if (!p) return;
  *(edge_u16 *)p = (u16)number;
  edge_copy(edge_copy(p + 2, a), b);
}

#define EDGE_NONE ((edge_str){0, 0})
static inline void edge_set_request(edge_str name, edge_str value) { edge_put_u16(EDGE_REC_SET_REQUEST, name.n, name, value); }
static inline void edge_set_response(edge_str name, edge_str value) { edge_put_u16(EDGE_REC_SET_RESPONSE, name.n, name, value); }
static inline void edge_remove_request(edge_str name) { edge_put_u16(EDGE_REC_REMOVE, 0, name, EDGE_NONE); }
static inline void edge_remove_response(edge_str name) { edge_put_u16(EDGE_REC_REMOVE, 1, name, EDGE_NONE); }

typedef struct { edge_str name, value; } edge_field;

/* Answers the request at once. */
static inline void edge_answer(u32 status, const edge_field *f, u32 fields, edge_str body) {
  u32 n = 8 + body.n;
  for (u32 i = 0; i < fields; i++) n += 4 + f[i].name.n + f[i].value.n;
  u8 *p = edge_put(EDGE_REC_ANSWER, n);
  if (!p) return;
  *(edge_u32 *)p = status | fields << 16;
  *(edge_u32 *)(p + 4) = body.n;
  p += 8;
  for (u32 i = 0; i < fields; i++) {
    p[0] = (u8)f[i].name.n, p[1] = (u8)(f[i].name.n >> 8);
    p[2] = (u8)f[i].value.n, p[3] = (u8)(f[i].value.n >> 8);
    p = edge_copy(edge_copy(p + 4, f[i].name), f[i].value);
  }
  edge_copy(p, body);
}

/* Closes the records and returns the result; a guest error if some did not fit. */
static inline i64 edge_done(u32 status, u32 flags, u32 value) {
  if (!edge_records_end()) return edge_result(EDGE_ERROR, 0, 0);
  return edge_result(status, flags | EDGE_RECORDS, value);
}

/* Refuses the request: the whole answer of a route hook. */
static inline i64 edge_deny(u32 status, edge_str reason) {
  edge_records_begin();
  edge_put_u16(EDGE_REC_STATUS, status, reason, EDGE_NONE);
  return edge_done(EDGE_DENY, 0, 0);
}

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
