;; Hooks for edgenode in WebAssembly text, ABI 1; see hooks/abi/ABI.md and
;; docs/hooks-wat.md.
;;
;; This file is fields of a module without "(module": put yours behind it,
;;
;;   cat edge.wat mine.wat > all.wat
;;   wat2wasm all.wat -o mine.wasm
;;   manifest.sh manifest.json mine.wasm
;;
;; and imports of host functions before it. Yours holds the exports edge_init and
;; edge_on_…, and its texts as (data (i32.const 1024) "…"). Bytes are passed as
;; address and length.
;;
;; Memory, one page: 0 to 1,023 unused, 1,024 to 32,767 yours, then the area.

(memory (export "memory") 1)
(global $in i32 (i32.const 32768))
(global $out (mut i32) (i32.const 0))
(global $end (mut i32) (i32.const 0))
(global $put (mut i32) (i32.const 0))
(global $full (mut i32) (i32.const 0))

(func (export "edge_abi_version") (result i32)
  (i32.const 0x10000))

(func (export "edge_alloc_buf") (param $in i32) (param $out i32) (result i32)
  (if (i32.or (i32.gt_u (local.get $in) (i32.const 32768))
              (i32.gt_u (local.get $out) (i32.sub (i32.const 32768) (local.get $in))))
    (then (return (i32.const 0))))
  (global.set $out (i32.add (global.get $in) (local.get $in)))
  (global.set $end (i32.add (global.get $out) (local.get $out)))
  (global.get $in))

;; ---- Bytes --------------------------------------------------------------------

;; Whether the n bytes at p start with the m bytes at q.
(func $prefix (param $p i32) (param $n i32) (param $q i32) (param $m i32) (result i32)
  (if (i32.lt_u (local.get $n) (local.get $m)) (then (return (i32.const 0))))
  (block $rest
    (loop $words
      (br_if $rest (i32.lt_u (local.get $m) (i32.const 8)))
      (if (i64.ne (i64.load align=1 (local.get $p)) (i64.load align=1 (local.get $q)))
        (then (return (i32.const 0))))
      (local.set $p (i32.add (local.get $p) (i32.const 8)))
      (local.set $q (i32.add (local.get $q) (i32.const 8)))
      (local.set $m (i32.sub (local.get $m) (i32.const 8)))
      (br $words)))
  (block $same
    (loop $bytes
      (br_if $same (i32.eqz (local.get $m)))
      (if (i32.ne (i32.load8_u (local.get $p)) (i32.load8_u (local.get $q)))
        (then (return (i32.const 0))))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (local.set $q (i32.add (local.get $q) (i32.const 1)))
      (local.set $m (i32.sub (local.get $m) (i32.const 1)))
      (br $bytes)))
  (i32.const 1))

(func $equal (param $p i32) (param $n i32) (param $q i32) (param $m i32) (result i32)
  (if (result i32) (i32.eq (local.get $n) (local.get $m))
    (then (call $prefix (local.get $p) (local.get $n) (local.get $q) (local.get $m)))
    (else (i32.const 0))))

;; Where the m bytes at q occur in the n at p: their address, 0 if they do not.
(func $find (param $p i32) (param $n i32) (param $q i32) (param $m i32) (result i32)
  (loop $next
    (if (i32.lt_u (local.get $n) (local.get $m)) (then (return (i32.const 0))))
    (if (call $prefix (local.get $p) (local.get $n) (local.get $q) (local.get $m))
      (then (return (local.get $p))))
    (local.set $p (i32.add (local.get $p) (i32.const 1)))
    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
    (br $next))
  (unreachable))

;; Copies n bytes from p to $to and returns what follows them there.
(func $copy (param $to i32) (param $p i32) (param $n i32) (result i32)
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (i32.store8 (local.get $to) (i32.load8_u (local.get $p)))
      (local.set $to (i32.add (local.get $to) (i32.const 1)))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
  (local.get $to))

;; ---- The request: route and ttl -------------------------------------------------

(func $operation (result i32) (i32.load8_u offset=3 (global.get $in)))
(func $method (result i32) (i32.load8_u offset=4 (global.get $in)))
(func $tiers (result i32) (i32.load8_u offset=5 (global.get $in)))
;; 1 truncated, 2 TLS, 4 site, 8 lifetime known, 16 client certificate.
(func $flags (result i32) (i32.load16_u offset=6 (global.get $in)))
(func $now (result i64) (i64.load offset=8 (global.get $in)))
(func $content_bytes (result i64) (i64.load offset=16 (global.get $in)))
(func $status (result i32) (i32.load16_u offset=38 (global.get $in)))
(func $lifetime (result i32) (i32.load offset=40 (global.get $in)))
(func $hits (result i32) (i32.load offset=44 (global.get $in)))
;; Address of the client's 16 bytes.
(func $client (result i32) (i32.add (global.get $in) (i32.const 48)))

;; scheme://host/path?query, or the id.
(func $key (result i32 i32)
  (i32.add (global.get $in) (i32.load offset=24 (global.get $in)))
  (i32.load offset=28 (global.get $in)))

;; Path and query of a site's request; the id otherwise.
(func $path (result i32 i32)
  (local $p i32) (local $end i32) (local $slashes i32)
  (local.set $p (i32.add (global.get $in) (i32.load offset=24 (global.get $in))))
  (local.set $end (i32.add (local.get $p) (i32.load offset=28 (global.get $in))))
  (if (i32.and (call $flags) (i32.const 4))
    (then
      (block $found
        (loop $next
          (br_if $found (i32.ge_u (local.get $p) (local.get $end)))
          (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 0x2f))
            (then
              (local.set $slashes (i32.add (local.get $slashes) (i32.const 1)))
              (br_if $found (i32.eq (local.get $slashes) (i32.const 3)))))
          (local.set $p (i32.add (local.get $p) (i32.const 1)))
          (br $next)))))
  (local.get $p)
  (i32.sub (local.get $end) (local.get $p)))

(func $header_count (result i32) (i32.load16_u offset=36 (global.get $in)))

;; Header line i: number of its name, with bit 15 for the response's, and value.
(func $line (param $i i32) (result i32 i32 i32)
  (local $e i32)
  (local.set $e (i32.add (i32.add (global.get $in) (i32.load offset=32 (global.get $in)))
                         (i32.shl (local.get $i) (i32.const 3))))
  (i32.load16_u (local.get $e))
  (i32.add (global.get $in) (i32.load offset=4 (local.get $e)))
  (i32.load16_u offset=2 (local.get $e)))

;; The first line of header number $name of the manifest's list, plus 0x8000 for the
;; response's; address 0 if there is none.
(func $header (param $name i32) (result i32 i32)
  (local $e i32) (local $n i32)
  (local.set $n (call $header_count))
  (local.set $e (i32.add (global.get $in) (i32.load offset=32 (global.get $in))))
  (block $none
    (loop $next
      (br_if $none (i32.eqz (local.get $n)))
      (if (i32.eq (i32.load16_u (local.get $e)) (local.get $name))
        (then
          (return (i32.add (global.get $in) (i32.load offset=4 (local.get $e)))
                  (i32.load16_u offset=2 (local.get $e)))))
      (local.set $e (i32.add (local.get $e) (i32.const 8)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
  (i32.const 0) (i32.const 0))

;; ---- Candidates: evict and admit --------------------------------------------------

(func $behind_head (result i32) (i32.add (global.get $in) (i32.load16_u (global.get $in))))
(func $count (result i32) (i32.load (call $behind_head)))
;; In 1/65536.
(func $pressure (result i32) (i32.load offset=4 (call $behind_head)))
;; Address of the first record of 32 bytes: 0 i64 id, 8 size, 12 age in seconds,
;; 16 idle ms, 20 hits, 24 seconds left, 28 u16 flags, 30 u16 tag class.
(func $candidates (result i32) (i32.add (call $behind_head) (i32.const 8)))
;; Where the scores go, 4 bytes each.
(func $scores (result i32) (global.get $out))

;; ---- The answer -----------------------------------------------------------------

;; Status 0 ok, 1 default, 2 pass, 3 deny, 4 error; flags 2 do not store.
(func $result (param $status i32) (param $flags i32) (param $value i32) (result i64)
  (i64.or (i64.or (i64.shl (i64.extend_i32_u (local.get $status)) (i64.const 56))
                  (i64.shl (i64.extend_i32_u (local.get $flags)) (i64.const 32)))
          (i64.extend_i32_u (local.get $value))))

;; Starts the records; then any of those below, and $done.
(func $begin
  (global.set $put (global.get $out))
  (global.set $full (i32.const 0)))

;; Closes the records and makes the result, a guest error if some did not fit.
(func $done (param $status i32) (param $flags i32) (param $value i32) (result i64)
  (if (global.get $full) (then (return (call $result (i32.const 4) (i32.const 0) (i32.const 0)))))
  (i64.store (global.get $put) (i64.const 0))
  (call $result (local.get $status) (i32.or (local.get $flags) (i32.const 1)) (local.get $value)))

;; Makes room for a record and returns where its n bytes go, 0 if there is none.
(func $record (param $type i32) (param $n i32) (result i32)
  (local $size i32) (local $p i32)
  (local.set $size (i32.and (i32.add (local.get $n) (i32.const 11)) (i32.const -8)))
  (if (i32.or (i32.or (global.get $full) (i32.gt_u (local.get $n) (i32.const 0xffff)))
              (i32.gt_u (i32.add (local.get $size) (i32.const 8)) (i32.sub (global.get $end) (global.get $put))))
    (then
      (global.set $full (i32.const 1))
      (return (i32.const 0))))
  (local.set $p (global.get $put))
  (global.set $put (i32.add (local.get $p) (local.get $size)))
  (i64.store (i32.sub (global.get $put) (i32.const 8)) (i64.const 0))
  (i32.store (local.get $p) (i32.or (local.get $type) (i32.shl (local.get $n) (i32.const 16))))
  (i32.add (local.get $p) (i32.const 4)))

;; A record of bytes: 1 key addition, 2 path and query, 3 tag, 4 state.
(func $bytes (param $type i32) (param $p i32) (param $n i32)
  (local $to i32)
  (local.set $to (call $record (local.get $type) (local.get $n)))
  (if (local.get $to)
    (then (drop (call $copy (local.get $to) (local.get $p) (local.get $n))))))

(func $set_tiers (param $read i32) (param $write i32)
  (local $to i32)
  (local.set $to (call $record (i32.const 5) (i32.const 2)))
  (if (local.get $to)
    (then (i32.store16 (local.get $to) (i32.or (local.get $read) (i32.shl (local.get $write) (i32.const 8)))))))

;; Seconds for each tier; -1 leaves one as computed.
(func $lifetimes (param $l1 i32) (param $l2 i32) (param $l3 i32)
  (local $to i32)
  (local.set $to (call $record (i32.const 6) (i32.const 12)))
  (if (local.get $to)
    (then
      (i32.store (local.get $to) (local.get $l1))
      (i32.store offset=4 (local.get $to) (local.get $l2))
      (i32.store offset=8 (local.get $to) (local.get $l3)))))

;; Stale windows in seconds; -1 leaves one as computed.
(func $stale (param $while_revalidate i32) (param $if_error i32)
  (local $to i32)
  (local.set $to (call $record (i32.const 7) (i32.const 8)))
  (if (local.get $to)
    (then
      (i32.store (local.get $to) (local.get $while_revalidate))
      (i32.store offset=4 (local.get $to) (local.get $if_error)))))

(func $reuse (param $seconds i32)
  (local $to i32)
  (local.set $to (call $record (i32.const 9) (i32.const 4)))
  (if (local.get $to) (then (i32.store (local.get $to) (local.get $seconds)))))

;; A u16 and bytes: 8 status and reason; 12 remove a header, number 0 of the request,
;; 1 of the response.
(func $number_and (param $type i32) (param $number i32) (param $p i32) (param $n i32)
  (local $to i32)
  (local.set $to (call $record (local.get $type) (i32.add (local.get $n) (i32.const 2))))
  (if (local.get $to)
    (then
      (i32.store16 (local.get $to) (local.get $number))
      (drop (call $copy (i32.add (local.get $to) (i32.const 2)) (local.get $p) (local.get $n))))))

;; Sets a header: 10 of the request, 11 of the response.
(func $set_header (param $type i32) (param $name i32) (param $n i32) (param $value i32) (param $m i32)
  (local $to i32)
  (local.set $to (call $record (local.get $type) (i32.add (i32.add (local.get $n) (local.get $m)) (i32.const 2))))
  (if (local.get $to)
    (then
      (i32.store16 (local.get $to) (local.get $n))
      (drop (call $copy (call $copy (i32.add (local.get $to) (i32.const 2)) (local.get $name) (local.get $n))
                        (local.get $value) (local.get $m))))))

;; Answers the request at once, with a body and one header; none if its name is empty.
(func $answer (param $status i32) (param $name i32) (param $n i32) (param $value i32) (param $m i32) (param $body i32) (param $size i32)
  (local $to i32) (local $field i32)
  (if (local.get $n)
    (then (local.set $field (i32.add (i32.add (local.get $n) (local.get $m)) (i32.const 4)))))
  (local.set $to (call $record (i32.const 13) (i32.add (i32.add (local.get $size) (local.get $field)) (i32.const 8))))
  (if (i32.eqz (local.get $to)) (then (return)))
  (i32.store16 (local.get $to) (local.get $status))
  (i32.store16 offset=2 (local.get $to) (i32.ne (local.get $n) (i32.const 0)))
  (i32.store offset=4 (local.get $to) (local.get $size))
  (local.set $to (i32.add (local.get $to) (i32.const 8)))
  (if (local.get $n)
    (then
      (i32.store16 (local.get $to) (local.get $n))
      (i32.store16 offset=2 (local.get $to) (local.get $m))
      (local.set $to (call $copy (call $copy (i32.add (local.get $to) (i32.const 4)) (local.get $name) (local.get $n))
                                 (local.get $value) (local.get $m)))))
  (drop (call $copy (local.get $to) (local.get $body) (local.get $size))))

;; Refuses the request: the whole answer of a route hook.
(func $deny (param $status i32) (param $reason i32) (param $n i32) (result i64)
  (call $begin)
  (call $number_and (i32.const 8) (local.get $status) (local.get $reason) (local.get $n))
  (call $done (i32.const 3) (i32.const 0) (i32.const 0)))

;; ---- The configuration, at edge_init ----------------------------------------------

;; A number that is not negative from flat JSON of len bytes; $absent if it is not
;; there. The key is given with its quotes.
(func $config_u32 (param $len i32) (param $key i32) (param $n i32) (param $absent i32) (result i32)
  (local $p i32) (local $end i32) (local $c i32) (local $v i32)
  (local.set $end (i32.add (global.get $in) (local.get $len)))
  (local.set $p (call $find (global.get $in) (local.get $len) (local.get $key) (local.get $n)))
  (if (i32.eqz (local.get $p)) (then (return (local.get $absent))))
  (local.set $p (i32.add (local.get $p) (local.get $n)))
  (loop $blanks
    (local.set $c (i32.load8_u (local.get $p)))
    (if (i32.or (i32.eq (local.get $c) (i32.const 0x20)) (i32.eq (local.get $c) (i32.const 0x3a)))
      (then
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (br $blanks))))
  (if (i32.gt_u (i32.sub (local.get $c) (i32.const 0x30)) (i32.const 9)) (then (return (local.get $absent))))
  (loop $digits
    (local.set $c (i32.sub (i32.load8_u (local.get $p)) (i32.const 0x30)))
    (if (i32.and (i32.le_u (local.get $c) (i32.const 9)) (i32.lt_u (local.get $p) (local.get $end)))
      (then
        (local.set $v (i32.add (i32.mul (local.get $v) (i32.const 10)) (local.get $c)))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (br $digits))))
  (local.get $v))
