// The vector guest in AssemblyScript: see README.md in this folder.
import * as edge from "../../assemblyscript/edge";
import * as host from "../../assemblyscript/host";
export { edge_abi_version, edge_alloc_buf } from "../../assemblyscript/edge";

const dump: usize = memory.data(1024);
const scratch: usize = memory.data(256);
let end: usize = dump;

function fnv(v: edge.View): u32 {
  let h: u32 = 2166136261;
  for (let i: u32 = 0; i < edge.size(v); i++) h = (h ^ edge.byte(v, i)) * 16777619;
  return h;
}

function start(): void { end = dump; }
function byte(v: u8): void { store<u8>(end, v); end += 1; }
function half(v: u16): void { store<u16>(end, v); end += 2; }
function word(v: u32): void { store<u32>(end, v); end += 4; }
function long(v: u64): void { store<u64>(end, v); end += 8; }
function written(): edge.View { return edge.view(dump, <u32>(end - dump)); }

function lookUp(v: edge.View): void {
  word(v == edge.NONE ? 0xffffffff : edge.size(v));
  word(v == edge.NONE ? 0 : fnv(v));
}

function dumpInput(): edge.View {
  start();
  byte(edge.operation());
  byte(edge.method());
  byte(edge.tiers());
  byte(0);
  half(edge.flags());
  half(edge.status());
  long(edge.nowMs());
  long(edge.contentBytes());
  word(edge.is(edge.LIFETIME_KNOWN) ? edge.lifetime() : 0);
  word(edge.hits());
  for (let i: u32 = 0; i < edge.size(edge.client()); i++) byte(edge.byte(edge.client(), i));
  word(edge.size(edge.path()));
  word(edge.size(edge.key()));
  word(fnv(edge.key()));
  word(edge.headerCount());
  for (let i: u32 = 0; i < edge.headerCount(); i++) {
    half(edge.lineName(i));
    half(<u16>edge.size(edge.lineValue(i)));
    word(fnv(edge.lineValue(i)));
  }
  lookUp(edge.header(0));
  lookUp(edge.header(1));
  lookUp(edge.responseHeader(0));
  lookUp(edge.responseHeader(1));
  return written();
}

export function edge_init(len: u32): i32 { return edge.configU32(len, "refuse", 0) != 0 ? 1 : 0; }

function each(): i64 {
  edge.begin();
  edge.keyAddition("eu");
  edge.target("/b?c=d");
  edge.tag("news");
  edge.state("hot-1");
  edge.setTiers(edge.L1, edge.L1 | edge.L2 | edge.L3);
  edge.refuse(429, "slow down");
  edge.reuse(60);
  edge.setRequestHeader("X-Variant", "b");
  edge.setResponseHeader("x-served-by", "");
  edge.removeRequestHeader("Cookie");
  edge.answer(200, "text/plain", "hi");
  return edge.done(edge.DENY);
}

function tooMuch(): i64 {
  edge.begin();
  for (let i = 0; i < 3000; i++) edge.tag("tag");
  return edge.done(edge.OK);
}

// An ASCII text as bytes, at p.
function ascii(p: usize, text: string): usize {
  for (let i = 0; i < text.length; i++) store<u8>(p + i, <u8>text.charCodeAt(i));
  return p;
}

function found(n: i32, cap: i32): void {
  word(n);
  if (n >= 0) word(fnv(edge.view(scratch + 64, min(n, cap))));
}

function askHost(): i64 {
  start();
  host.log(1, ascii(scratch, "hello from the guest"), 20);
  host.metricAdd(0, 2);
  host.metricObserve(1, 0.5);
  long(host.nowMs());
  found(host.header(0, ascii(scratch, "x-unlisted"), 10, scratch + 64, 64), 64);
  found(host.header(0, ascii(scratch, "x-absent"), 8, scratch + 64, 64), 64);
  found(host.config(ascii(scratch, "greeting"), 8, scratch + 64, 64), 64);
  found(host.kvGet(ascii(scratch, "uk/1"), 4, scratch + 64, 2), 2);
  word(host.tagAdd(ascii(scratch, "added"), 5));
  word(host.tagAdd(ascii(scratch, "no,tag"), 6));
  edge.begin();
  edge.answer(200, "", written());
  return edge.done(edge.OK);
}

export function edge_on_route(len: u32): i64 {
  const k = edge.key();
  if (edge.equals(k, "vector:route")) return each();
  if (edge.equals(k, "vector:deny")) return edge.deny(429, "slow down");
  if (edge.equals(k, "vector:pass")) return edge.result(edge.PASS);
  if (edge.equals(k, "vector:pool")) return edge.result(edge.OK, 0, 2 + 1);
  if (edge.equals(k, "vector:default")) return edge.result(edge.DEFAULT);
  if (edge.equals(k, "vector:error")) return edge.result(edge.ERROR);
  if (edge.equals(k, "vector:full")) return tooMuch();
  if (edge.equals(k, "vector:host")) return askHost();
  const d = dumpInput();
  edge.begin();
  edge.answer(200, "", d);
  return edge.done(edge.OK);
}

export function edge_on_ttl(len: u32): i64 {
  if (edge.equals(edge.key(), "vector:ttl")) {
    memory.fill(scratch, 0x74, 256);
    edge.begin();
    edge.tag(edge.view(scratch, 256));
    edge.lifetimes(1, 2, edge.AS_COMPUTED);
    edge.stale(60, edge.AS_COMPUTED);
    return edge.done(edge.OK, 0, 60);
  }
  if (edge.equals(edge.key(), "vector:no-store")) return edge.result(edge.OK, edge.NO_STORE, edge.AS_COMPUTED);
  return edge.result(edge.OK, 0, fnv(dumpInput()));
}

function digest(c: edge.Candidate): u32 {
  start();
  long(c.id);
  word(c.size);
  word(c.ageS);
  word(c.idleMs);
  word(c.hits);
  word(c.leftS);
  half(c.flags);
  half(c.tagClass);
  word(edge.pressure());
  return fnv(written());
}

export function edge_on_evict(len: u32): i64 {
  const n = edge.candidateCount();
  for (let i: u32 = 0; i < n; i++) edge.setScore(i, digest(edge.candidate(i)));
  return edge.result(edge.OK, 0, n);
}

export function edge_on_admit(len: u32): i64 {
  let yes: u32 = 0;
  for (let i: u32 = 0; i < edge.candidateCount(); i++) yes ^= digest(edge.candidate(i));
  return edge.result(edge.OK, 0, yes & 1);
}
