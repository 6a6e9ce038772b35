;; policy-wat: one policy with all four hooks, the same in every language; what it does
;; stands in ../policy-c/policy-c.c.

(data (i32.const 1024) "/internal//live/internalbad tenant\"html\"euussession=/static/image/text/html")
;; 1024 /internal/ 10, 1034 /live/ 6, 1040 internal 8, 1048 bad tenant 10, 1058 "html" 6,
;; 1064 eu 2, 1066 us 2, 1068 session= 8, 1076 /static/ 8, 1084 image/ 6, 1090 text/html 9

(global $html (mut i32) (i32.const 30))

(func (export "edge_init") (param $len i32) (result i32)
  (global.set $html (call $config_u32 (local.get $len) (i32.const 1058) (i32.const 6) (i32.const 30)))
  (i32.const 0))

(func (export "edge_on_route") (param $len i32) (result i64)
  (local $p i32) (local $n i32) (local $pool i32)
  (call $path)
  (local.set $n)
  (local.set $p)
  (if (call $prefix (local.get $p) (local.get $n) (i32.const 1024) (i32.const 10))
    (then
      (if (i32.eqz (i32.and (call $flags) (i32.const 16)))
        (then (return (call $deny (i32.const 403) (i32.const 1040) (i32.const 8)))))))
  (if (call $prefix (local.get $p) (local.get $n) (i32.const 1034) (i32.const 6))
    (then (return (call $result (i32.const 2) (i32.const 0) (i32.const 0)))))
  (call $header (i32.const 0))
  (local.set $n)
  (local.set $p)
  (if (i32.eqz (local.get $p))
    (then (return (call $result (i32.const 1) (i32.const 0) (i32.const 0)))))
  (if (i32.gt_u (i32.sub (local.get $n) (i32.const 1)) (i32.const 31))
    (then (return (call $deny (i32.const 400) (i32.const 1048) (i32.const 10)))))
  (if (call $prefix (local.get $p) (local.get $n) (i32.const 1064) (i32.const 2))
    (then (local.set $pool (i32.const 1)))
    (else
      (if (call $prefix (local.get $p) (local.get $n) (i32.const 1066) (i32.const 2))
        (then (local.set $pool (i32.const 2))))))
  (call $begin)
  (call $bytes (i32.const 1) (local.get $p) (local.get $n))
  (call $done (i32.const 0) (i32.const 0) (local.get $pool)))

;; With flag 1 the cookie may have been cut off.
(func $logged_in (result i32)
  (local $i i32) (local $name i32) (local $p i32) (local $n i32)
  (if (i32.and (call $flags) (i32.const 1)) (then (return (i32.const 1))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (call $header_count)))
      (call $line (local.get $i))
      (local.set $n)
      (local.set $p)
      (local.set $name)
      (if (i32.eq (local.get $name) (i32.const 1))
        (then
          (if (call $find (local.get $p) (local.get $n) (i32.const 1068) (i32.const 8))
            (then (return (i32.const 1))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.const 0))

(func (export "edge_on_ttl") (param $len i32) (result i64)
  (local $p i32) (local $n i32)
  (if (call $logged_in) (then (return (call $result (i32.const 0) (i32.const 2) (i32.const -1)))))
  (if (i32.ge_u (call $status) (i32.const 400)) (then (return (call $result (i32.const 0) (i32.const 0) (i32.const 5)))))
  (call $path)
  (local.set $n)
  (local.set $p)
  (if (call $prefix (local.get $p) (local.get $n) (i32.const 1076) (i32.const 8))
    (then
      (call $begin)
      (call $stale (i32.const 60) (i32.const -1))
      (return (call $done (i32.const 0) (i32.const 0) (i32.const 31536000)))))
  (call $header (i32.const 0x8000))
  (local.set $n)
  (local.set $p)
  (if (call $prefix (local.get $p) (local.get $n) (i32.const 1084) (i32.const 6))
    (then (return (call $result (i32.const 0) (i32.const 0) (i32.const 86400)))))
  (if (call $prefix (local.get $p) (local.get $n) (i32.const 1090) (i32.const 9))
    (then (return (call $result (i32.const 0) (i32.const 0) (global.get $html)))))
  (call $result (i32.const 1) (i32.const 0) (i32.const 0)))

;; log2 of v in 1/256, v > 0, straight between powers of two.
(func $log2 (param $v i32) (result i32)
  (local $zeros i32)
  (local.set $zeros (i32.clz (local.get $v)))
  (i32.or
    (i32.shl (i32.sub (i32.const 31) (local.get $zeros)) (i32.const 8))
    (i32.and (i32.shr_u (i32.shl (local.get $v) (local.get $zeros)) (i32.const 23)) (i32.const 255))))

(func $score (param $c i32) (result i32)
  (local $uses i32)
  (if (i32.eqz (i32.load offset=24 (local.get $c))) (then (return (i32.const -2000000000))))
  (local.set $uses (i32.load offset=20 (local.get $c)))
  (local.set $uses (i32.add (local.get $uses) (i32.ne (local.get $uses) (i32.const -1))))
  (i32.sub
    (i32.sub (call $log2 (local.get $uses)) (call $log2 (i32.or (i32.load offset=8 (local.get $c)) (i32.const 1))))
    (call $log2 (i32.add (i32.shr_u (i32.load offset=16 (local.get $c)) (i32.const 10)) (i32.const 1)))))

(func (export "edge_on_evict") (param $len i32) (result i64)
  (local $c i32) (local $out i32) (local $end i32)
  (local.set $c (call $candidates))
  (local.set $out (call $scores))
  (local.set $end (i32.add (local.get $c) (i32.shl (call $count) (i32.const 5))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $c) (local.get $end)))
      (i32.store (local.get $out) (call $score (local.get $c)))
      (local.set $c (i32.add (local.get $c) (i32.const 32)))
      (local.set $out (i32.add (local.get $out) (i32.const 4)))
      (br $next)))
  (call $result (i32.const 0) (i32.const 0) (call $count)))

(func (export "edge_on_admit") (param $len i32) (result i64)
  (local $c i32) (local $end i32) (local $s i32) (local $worst i32)
  (local.set $c (call $candidates))
  (local.set $end (i32.add (local.get $c) (i32.shl (call $count) (i32.const 5))))
  (local.set $worst (i32.const 0x7fffffff))
  (if (i32.lt_u (call $count) (i32.const 2)) (then (return (call $result (i32.const 0) (i32.const 0) (i32.const 1)))))
  (loop $next
    (local.set $c (i32.add (local.get $c) (i32.const 32)))
    (if (i32.lt_u (local.get $c) (local.get $end))
      (then
        (local.set $s (call $score (local.get $c)))
        (if (i32.lt_s (local.get $s) (local.get $worst)) (then (local.set $worst (local.get $s))))
        (br $next))))
  (call $result (i32.const 0) (i32.const 0) (i32.gt_s (call $score (call $candidates)) (local.get $worst))))
