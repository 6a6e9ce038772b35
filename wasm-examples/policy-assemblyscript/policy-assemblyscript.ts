// policy-assemblyscript: one policy with all four hooks, the same in every language;
// what it does stands in ../policy-c/policy-c.c.
import * as edge from "../../hooks/guest/assemblyscript/edge";
export { edge_abi_version, edge_alloc_buf } from "../../hooks/guest/assemblyscript/edge";

const TENANT: u16 = 0, COOKIE: u16 = 1;
const TYPE: u16 = 0; // of the response headers

let html: u32 = 30;

export function edge_init(len: u32): i32 {
  html = edge.configU32(len, "html", 30);
  return 0;
}

export function edge_on_route(len: u32): i64 {
  const path = edge.path();
  if (edge.startsWith(path, "/internal/") && !edge.is(edge.CLIENT_CERT)) return edge.deny(403, "internal");
  if (edge.startsWith(path, "/live/")) return edge.result(edge.PASS);
  const tenant = edge.header(TENANT);
  if (tenant == edge.NONE) return edge.result(edge.DEFAULT);
  if (edge.size(tenant) < 1 || edge.size(tenant) > 32) return edge.deny(400, "bad tenant");
  let pool: u32 = 0;
  if (edge.startsWith(tenant, "eu")) pool = 1;
  else if (edge.startsWith(tenant, "us")) pool = 2;
  edge.begin();
  edge.keyAddition(tenant);
  return edge.done(edge.OK, 0, pool);
}

function loggedIn(): bool {
  if (edge.is(edge.TRUNCATED)) return true; // the cookie may have been cut off
  const n = edge.headerCount();
  for (let i: u32 = 0; i < n; i++) {
    if (edge.lineName(i) == COOKIE && edge.contains(edge.lineValue(i), "session=")) return true;
  }
  return false;
}

export function edge_on_ttl(len: u32): i64 {
  if (loggedIn()) return edge.result(edge.OK, edge.NO_STORE, edge.AS_COMPUTED);
  if (edge.status() >= 400) return edge.result(edge.OK, 0, 5);
  if (edge.startsWith(edge.path(), "/static/")) {
    edge.begin();
    edge.stale(60, edge.AS_COMPUTED);
    return edge.done(edge.OK, 0, 31536000);
  }
  const type = edge.responseHeader(TYPE);
  if (edge.startsWith(type, "image/")) return edge.result(edge.OK, 0, 86400);
  if (edge.startsWith(type, "text/html")) return edge.result(edge.OK, 0, html);
  return edge.result(edge.DEFAULT);
}

// log2 of v in 1/256, v > 0, straight between powers of two.
// @ts-ignore: decorator
@inline function log2(v: u32): i32 {
  const zeros = clz<u32>(v);
  return ((31 - zeros) << 8) | (((v << zeros) >> 23) & 255);
}

function score(c: edge.Candidate): i32 {
  if (c.leftS == 0) return -2000000000;
  const uses = c.hits == 0xffffffff ? c.hits : c.hits + 1;
  return log2(uses) - log2(c.size | 1) - log2(c.idleMs / 1024 + 1);
}

export function edge_on_evict(len: u32): i64 {
  const n = edge.candidateCount();
  for (let i: u32 = 0; i < n; i++) edge.setScore(i, score(edge.candidate(i)));
  return edge.result(edge.OK, 0, n);
}

export function edge_on_admit(len: u32): i64 {
  const n = edge.candidateCount();
  let worst = i32.MAX_VALUE;
  for (let i: u32 = 1; i < n; i++) worst = min(worst, score(edge.candidate(i)));
  return edge.result(edge.OK, 0, n < 2 || score(edge.candidate(0)) > worst ? 1 : 0);
}
