// key-normalise: one key for one page. Query parameters that only track (utm_…, gclid,
// fbclid, msclkid, _ga) are dropped, the others sorted by name and value, and a "?"
// with nothing behind it goes. Equal requests then share one object, and the origin
// sees the normal form as well.
//
// A query of more than 64 parameters or 2 KiB is left as it is, so that the work is
// bounded; so is one that was cut off.
import * as edge from "../../hooks/guest/assemblyscript/edge";
export { edge_abi_version, edge_alloc_buf } from "../../hooks/guest/assemblyscript/edge";

const MOST: u32 = 64;
const params: usize = memory.data(512); // views, 8 bytes each

export function edge_init(len: u32): i32 { return 0; }

function tracks(p: edge.View): bool {
  return edge.startsWith(p, "utm_") || edge.startsWith(p, "gclid=") || edge.startsWith(p, "fbclid=") ||
    edge.startsWith(p, "msclkid=") || edge.startsWith(p, "_ga=");
}

// Whether a stands after b in order of bytes.
function after(a: edge.View, b: edge.View): bool {
  const n = min(edge.size(a), edge.size(b));
  for (let i: u32 = 0; i < n; i++) {
    if (edge.byte(a, i) != edge.byte(b, i)) return edge.byte(a, i) > edge.byte(b, i);
  }
  return edge.size(a) > edge.size(b);
}

// Puts p in its place among the n before it.
function insert(p: edge.View, n: u32): void {
  let i = n;
  for (; i > 0; i--) {
    const before = load<u64>(params + (<usize>(i - 1) << 3));
    if (!after(before, p)) break;
    store<u64>(params + (<usize>i << 3), before);
  }
  store<u64>(params + (<usize>i << 3), p);
}

// Splits the query into sorted parameters that stay; their number, or -1 if there are
// too many.
function collect(query: edge.View): i32 {
  let n: u32 = 0;
  while (edge.size(query) > 0) {
    const end = edge.indexOf(query, 0x26); // &
    const p = end < 0 ? query : edge.view(edge.at(query), end);
    query = end < 0 ? edge.NONE : edge.skip(query, end + 1);
    if (edge.size(p) == 0 || tracks(p)) continue;
    if (n == MOST) return -1;
    insert(p, n++);
  }
  return n;
}

export function edge_on_route(len: u32): i64 {
  const path = edge.path();
  const mark = edge.is(edge.SITE) && !edge.is(edge.TRUNCATED) ? edge.indexOf(path, 0x3f) : -1; // ?
  if (mark < 0 || edge.size(path) > 2048) return edge.result(edge.DEFAULT);
  const n = collect(edge.skip(path, mark + 1));
  if (n < 0) return edge.result(edge.DEFAULT);

  let bytes: u32 = mark;
  for (let i = 0; i < n; i++) bytes += 1 + edge.size(load<u64>(params + (<usize>i << 3)));
  edge.begin();
  let to = edge.record(2, bytes);
  if (!to) return edge.result(edge.ERROR);
  to = copy(to, edge.view(edge.at(path), mark));
  for (let i = 0; i < n; i++) {
    store<u8>(to, i == 0 ? 0x3f : 0x26);
    to = copy(to + 1, load<u64>(params + (<usize>i << 3)));
  }
  return edge.done(edge.OK);
}

function copy(to: usize, v: edge.View): usize {
  for (let i: u32 = 0; i < edge.size(v); i++) store<u8>(to + i, edge.byte(v, i));
  return to + edge.size(v);
}
