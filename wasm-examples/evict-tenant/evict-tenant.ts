// evict-tenant: keeps the items of one tenant. Items carry a tag class, a number that
// stands for their tag; those of class "keep" leave only when nothing else is left, and
// of both groups the longest unused first. Under pressure above "limit" percent nobody
// is kept.
//
// Configuration: { keep = 3, limit = 98 }
import * as edge from "../../hooks/guest/assemblyscript/edge";
export { edge_abi_version, edge_alloc_buf } from "../../hooks/guest/assemblyscript/edge";

let keep: u32 = 0;
let limit: u32 = 0;

export function edge_init(len: u32): i32 {
  keep = edge.configU32(len, "keep", 0);
  const percent = edge.configU32(len, "limit", 98);
  limit = percent * 65536 / 100;
  return keep < 1 || keep > 0xffff || percent > 100 ? 1 : 0;
}

function score(c: edge.Candidate, kept: bool): i32 {
  if (c.leftS == 0) return i32.MIN_VALUE;
  const fresh = -<i32>(c.idleMs >> 2);
  return kept && c.tagClass == keep ? fresh + 0x40000000 : fresh;
}

export function edge_on_evict(len: u32): i64 {
  const n = edge.candidateCount();
  const kept = edge.pressure() <= limit;
  for (let i: u32 = 0; i < n; i++) edge.setScore(i, score(edge.candidate(i), kept));
  return edge.result(edge.OK, 0, n);
}

// A newcomer of the tenant comes in always, another one unless only the tenant's items
// would leave.
export function edge_on_admit(len: u32): i64 {
  const n = edge.candidateCount();
  if (n < 2 || edge.pressure() > limit || edge.candidate(0).tagClass == keep) return edge.result(edge.OK, 0, 1);
  for (let i: u32 = 1; i < n; i++) {
    if (edge.candidate(i).tagClass != keep) return edge.result(edge.OK, 0, 1);
  }
  return edge.result(edge.OK, 0, 0);
}
