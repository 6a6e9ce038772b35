// Hooks for edgenode in AssemblyScript, ABI 1; see hooks/abi/ABI.md and
// docs/hooks-assemblyscript.md.
//
// Nothing here allocates. A module exports edge_abi_version and edge_alloc_buf of this
// file, and its own edge_init and hooks:
//
//   import * as edge from "…/edge";
//   export { edge_abi_version, edge_alloc_buf } from "…/edge";
//   export function edge_init(len: u32): i32 { return 0; }
//   export function edge_on_route(len: u32): i64 {
//     if (edge.startsWith(edge.path(), "/live/")) return edge.result(edge.PASS);
//     return edge.result(edge.DEFAULT);
//   }

/** Bytes of the input or of the module, valid until the hook returns: address in the
 * lower 32 bits, length in the upper. NONE is what is not there. */
export type View = u64;
export const NONE: View = 0;

/** Address of the bytes. */
// @ts-ignore: decorator
@inline export function at(v: View): usize { return <usize>(v & 0xffffffff); }

/** Number of bytes. */
// @ts-ignore: decorator
@inline export function size(v: View): u32 { return <u32>(v >> 32); }

// @ts-ignore: decorator
@inline export function view(address: usize, length: u32): View { return <u64>address | (<u64>length << 32); }

/** Byte i; i is less than size. */
// @ts-ignore: decorator
@inline export function byte(v: View, i: u32): u8 { return load<u8>(at(v) + i); }

/** The bytes without the first n; n is at most size. */
// @ts-ignore: decorator
@inline export function skip(v: View, n: u32): View { return view(at(v) + n, size(v) - n); }

/** Reports whether v starts with an ASCII text. */
// @ts-ignore: decorator
@inline export function startsWith(v: View, text: string): bool {
  const n = <u32>text.length;
  return size(v) >= n && same(at(v), changetype<usize>(text), n);
}

/** Reports whether v is an ASCII text. */
// @ts-ignore: decorator
@inline export function equals(v: View, text: string): bool {
  const n = <u32>text.length;
  return size(v) == n && same(at(v), changetype<usize>(text), n);
}

/** As startsWith, ignoring the case of ASCII letters; text is in lower case. */
export function startsWithFold(v: View, text: string): bool {
  const n = <u32>text.length;
  if (size(v) < n) return false;
  for (let i: u32 = 0; i < n; i++) {
    let c = <u32>byte(v, i);
    if (c - 0x41 < 26) c |= 0x20;
    if (c != <u32>load<u16>(changetype<usize>(text) + (<usize>i << 1))) return false;
  }
  return true;
}

/** Reports whether an ASCII text occurs in v. */
export function contains(v: View, text: string): bool {
  const n = <u32>text.length;
  for (let i: u32 = 0; i + n <= size(v); i++) {
    if (same(at(v) + i, changetype<usize>(text), n)) return true;
  }
  return false;
}

/** Position of a byte, -1 if it does not occur. */
export function indexOf(v: View, c: u8): i32 {
  for (let i: u32 = 0; i < size(v); i++) {
    if (byte(v, i) == c) return i;
  }
  return -1;
}

// Bytes against UTF-16 of a literal.
function same(p: usize, text: usize, n: u32): bool {
  for (let i: u32 = 0; i < n; i++) {
    if (<u16>load<u8>(p + i) != load<u16>(text + (<usize>i << 1))) return false;
  }
  return true;
}

// ---- The area ---------------------------------------------------------------------

const AREA: u32 = 24 * 1024;
const input: usize = memory.data(24576, 8);
let output: usize = 0;
let outputEnd: usize = 0;

export function edge_abi_version(): i32 { return 1 << 16; }

export function edge_alloc_buf(inBytes: u32, outBytes: u32): usize {
  if (inBytes > AREA || outBytes > AREA - inBytes) return 0;
  output = input + inBytes;
  outputEnd = output + outBytes;
  return input;
}

// ---- The request: route and ttl ---------------------------------------------------

export const READ: u8 = 1, WRITE: u8 = 2, DELETE: u8 = 3, PURGE: u8 = 4;
export const L1: u8 = 1, L2: u8 = 2, L3: u8 = 4;

/** Flags; with TRUNCATED some of key or headers is missing: assume the worst. */
export const TRUNCATED: u16 = 1, TLS: u16 = 2, SITE: u16 = 4, LIFETIME_KNOWN: u16 = 8, CLIENT_CERT: u16 = 16;

/** A lifetime or window that is left as it is; a candidate that never expires. */
export const AS_COMPUTED: u32 = 0xffffffff;

// @ts-ignore: decorator
@inline export function operation(): u8 { return load<u8>(input, 3); }
/** 0 other, 1 GET, 2 HEAD, 3 POST, 4 PUT, 5 DELETE, 6 PATCH, 7 OPTIONS. */
// @ts-ignore: decorator
@inline export function method(): u8 { return load<u8>(input, 4); }
/** Tiers as now decided. */
// @ts-ignore: decorator
@inline export function tiers(): u8 { return load<u8>(input, 5); }
// @ts-ignore: decorator
@inline export function flags(): u16 { return load<u16>(input, 6); }
/** Reports whether all of these flags are set. */
// @ts-ignore: decorator
@inline export function is(f: u16): bool { return (flags() & f) == f; }
/** Time of the request, Unix milliseconds. */
// @ts-ignore: decorator
@inline export function nowMs(): u64 { return load<u64>(input, 8); }
/** Size of the content, 2⁶⁴−1 if not known. */
// @ts-ignore: decorator
@inline export function contentBytes(): u64 { return load<u64>(input, 16); }
/** Status of the response, 0 if there is none. */
// @ts-ignore: decorator
@inline export function status(): u16 { return load<u16>(input, 38); }
/** Lifetime in seconds; it holds with the flag LIFETIME_KNOWN. */
// @ts-ignore: decorator
@inline export function lifetime(): u32 { return load<u32>(input, 40); }
// @ts-ignore: decorator
@inline export function hits(): u32 { return load<u32>(input, 44); }
/** The client's address, 16 bytes, IPv4 as ::ffff:a.b.c.d. */
// @ts-ignore: decorator
@inline export function client(): View { return view(input + 48, 16); }
/** scheme://host/path?query, or the id. */
// @ts-ignore: decorator
@inline export function key(): View { return view(input + load<u32>(input, 24), load<u32>(input, 28)); }

/** Path and query of a site's request; the id otherwise. */
export function path(): View {
  const k = key();
  if (!is(SITE)) return k;
  let slashes = 0;
  const end = at(k) + size(k);
  for (let p = at(k); p < end; p++) {
    if (load<u8>(p) == 0x2f && ++slashes == 3) return view(p, <u32>(end - p));
  }
  return NONE;
}

/** Number of header lines. */
// @ts-ignore: decorator
@inline export function headerCount(): u32 { return load<u16>(input, 36); }

// @ts-ignore: decorator
@inline function entry(i: u32): u64 { return load<u64>(input + load<u32>(input, 32) + (<usize>i << 3)); }

/** Number of line i's name, with bit 15 for the response's. */
// @ts-ignore: decorator
@inline export function lineName(i: u32): u16 { return <u16>entry(i); }

/** Value of line i. */
// @ts-ignore: decorator
@inline export function lineValue(i: u32): View {
  const e = entry(i);
  return view(input + <usize>(e >> 32), <u32>(e >> 16) & 0xffff);
}

/** The first line of request header number name of the manifest's list, or NONE. An
 * empty value is not NONE. */
export function header(name: u16): View {
  const n = headerCount();
  for (let i: u32 = 0; i < n; i++) {
    if (lineName(i) == name) return lineValue(i);
  }
  return NONE;
}

/** The same for the manifest's response headers. */
// @ts-ignore: decorator
@inline export function responseHeader(name: u16): View { return header(name | 0x8000); }

// ---- Candidates: evict and admit --------------------------------------------------

/** An item that might be evicted. All numbers saturate. */
@unmanaged
export class Candidate {
  id: u64; // hash of the id
  size: u32; // bytes
  ageS: u32; // seconds since it was stored
  idleMs: u32; // milliseconds since its last use
  hits: u32;
  leftS: u32; // seconds until it expires, AS_COMPUTED if it does not
  flags: u16;
  tagClass: u16;
}

// @ts-ignore: decorator
@inline function behindHead(): usize { return input + <usize>load<u16>(input); }
// @ts-ignore: decorator
@inline export function candidateCount(): u32 { return load<u32>(behindHead()); }
/** In 1/65536. */
// @ts-ignore: decorator
@inline export function pressure(): u32 { return load<u32>(behindHead(), 4); }
// @ts-ignore: decorator
@inline export function candidate(i: u32): Candidate { return changetype<Candidate>(behindHead() + 8 + (<usize>i << 5)); }
/** Sets the score of candidate i; the lowest leaves first. */
// @ts-ignore: decorator
@inline export function setScore(i: u32, score: i32): void { store<i32>(output + (<usize>i << 2), score); }

// ---- The answer -------------------------------------------------------------------

/** Statuses of a result. */
export const OK: u32 = 0, DEFAULT: u32 = 1, PASS: u32 = 2, DENY: u32 = 3, ERROR: u32 = 4;
/** Flag of a ttl hook's result: do not store. */
export const NO_STORE: u32 = 2;

/** A result without records. For route, value is the pool's position + 1. */
// @ts-ignore: decorator
@inline export function result(status: u32, flags: u32 = 0, value: u32 = 0): i64 {
  return <i64>((<u64>status << 56) | (<u64>flags << 32) | <u64>value);
}

let put: usize = 0;
let full: bool = false;

/** Starts the records: then any of the functions below, and done. */
// @ts-ignore: decorator
@inline export function begin(): void { put = output; full = false; }

/** Closes the records and returns the result; a guest error if some did not fit. */
// @ts-ignore: decorator
@inline export function done(status: u32, flags: u32 = 0, value: u32 = 0): i64 {
  if (full) return result(ERROR);
  store<u64>(put, 0);
  return result(status, flags | 1, value);
}

/** Makes room for a record and returns where its content goes, 0 if there is none. */
export function record(type: u32, n: u32): usize {
  const bytes = <usize>((n + 11) & ~7);
  if (full || n > 0xffff || bytes + 8 > outputEnd - put) {
    full = true;
    return 0;
  }
  const p = put;
  store<u64>(p + bytes - 8, 0);
  store<u32>(p, type | (n << 16));
  put = p + bytes;
  return p + 4;
}

// What is put may be a View or an ASCII text.
// @ts-ignore: decorator
@inline function length<T>(v: T): u32 {
  if (isString<T>()) return <u32>(<string>v).length;
  return size(<u64>v);
}

// @ts-ignore: decorator
@inline function copy<T>(p: usize, v: T): usize {
  if (isString<T>()) {
    const n = <u32>(<string>v).length, from = changetype<usize>(<string>v);
    for (let i: u32 = 0; i < n; i++) store<u8>(p + i, load<u8>(from + (<usize>i << 1)));
    return p + n;
  } else {
    const n = size(<u64>v), from = at(<u64>v);
    for (let i: u32 = 0; i < n; i++) store<u8>(p + i, load<u8>(from + i));
    return p + n;
  }
}

/** A record of any type with a View or an ASCII text. */
// @ts-ignore: decorator
@inline export function putBytes<T>(type: u32, v: T): void {
  const p = record(type, length<T>(v));
  if (p) copy<T>(p, v);
}

// @ts-ignore: decorator
@inline export function keyAddition<T>(v: T): void { putBytes<T>(1, v); }
// @ts-ignore: decorator
@inline export function target<T>(v: T): void { putBytes<T>(2, v); }
// @ts-ignore: decorator
@inline export function tag<T>(v: T): void { putBytes<T>(3, v); }
// @ts-ignore: decorator
@inline export function state<T>(v: T): void { putBytes<T>(4, v); }

export function setTiers(read: u8, write: u8): void {
  const p = record(5, 2);
  if (p) store<u16>(p, <u16>read | (<u16>write << 8));
}

/** Seconds for each tier; AS_COMPUTED leaves one. */
export function lifetimes(l1: u32, l2: u32, l3: u32): void {
  const p = record(6, 12);
  if (!p) return;
  store<u32>(p, l1);
  store<u32>(p, l2, 4);
  store<u32>(p, l3, 8);
}

/** Stale windows in seconds; AS_COMPUTED leaves one. */
export function stale(whileRevalidate: u32, ifError: u32): void {
  const p = record(7, 8);
  if (!p) return;
  store<u32>(p, whileRevalidate);
  store<u32>(p, ifError, 4);
}

/** Status and reason of a refusal, with done(DENY). */
export function refuse(status: u16, reason: string): void {
  const p = record(8, 2 + <u32>reason.length);
  if (!p) return;
  store<u16>(p, status);
  copy<string>(p + 2, reason);
}

/** Refuses the request: the whole answer of a route hook. */
export function deny(status: u16, reason: string): i64 {
  begin();
  refuse(status, reason);
  return done(DENY);
}

/** Seconds for which the verdict may be reused for equal inputs. */
export function reuse(seconds: u32): void {
  const p = record(9, 4);
  if (p) store<u32>(p, seconds);
}

// @ts-ignore: decorator
@inline function field<T>(type: u32, name: string, value: T): void {
  const n = <u32>name.length;
  const p = record(type, 2 + n + length<T>(value));
  if (!p) return;
  store<u16>(p, <u16>n);
  copy<T>(copy<string>(p + 2, name), value);
}

// @ts-ignore: decorator
@inline export function setRequestHeader<T>(name: string, value: T): void { field<T>(10, name, value); }
// @ts-ignore: decorator
@inline export function setResponseHeader<T>(name: string, value: T): void { field<T>(11, name, value); }

function remove(response: u16, name: string): void {
  const p = record(12, 2 + <u32>name.length);
  if (!p) return;
  store<u16>(p, response);
  copy<string>(p + 2, name);
}

export function removeRequestHeader(name: string): void { remove(0, name); }
export function removeResponseHeader(name: string): void { remove(1, name); }

/** Answers the request at once, with a body of at most 4 KiB and a Content-Type, or
 * none if that is "". */
// @ts-ignore: decorator
@inline export function answer<T>(status: u16, contentType: string, body: T): void {
  const type = <u32>contentType.length;
  const p = record(13, 8 + (type ? 16 + type : 0) + length<T>(body));
  if (!p) return;
  store<u16>(p, status);
  store<u16>(p, type ? 1 : 0, 2);
  store<u32>(p, length<T>(body), 4);
  let to = p + 8;
  if (type) {
    store<u16>(to, 12);
    store<u16>(to, <u16>type, 2);
    to = copy<string>(copy<string>(to + 4, "content-type"), contentType);
  }
  copy<T>(to, body);
}

// ---- The configuration, at edge_init ----------------------------------------------

/** A number that is not negative from flat JSON; absent if it is not there. */
export function configU32(len: u32, key: string, absent: u32): u32 {
  const n = <u32>key.length;
  for (let i: u32 = 0; i + n + 2 < len; i++) {
    let p = input + i;
    if (load<u8>(p) != 0x22 || load<u8>(p + n + 1) != 0x22 || !same(p + 1, changetype<usize>(key), n)) continue;
    p += n + 2;
    while (load<u8>(p) == 0x20 || load<u8>(p) == 0x3a) p++;
    if (<u32>load<u8>(p) - 0x30 > 9) return absent;
    let v: u32 = 0;
    for (; p < input + len && <u32>load<u8>(p) - 0x30 <= 9; p++) v = v * 10 + load<u8>(p) - 0x30;
    return v;
  }
  return absent;
}
