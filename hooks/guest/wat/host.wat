;; Host functions, see hooks/abi/ABI.md, section 6. Imports stand before all else in a
;; module: take those that you need, and put this before edge.wat.
(import "edge" "log" (func $host_log (param $level i32) (param $text i32) (param $len i32)))
(import "edge" "metric_add" (func $host_metric_add (param $id i32) (param $n i64)))
(import "edge" "metric_observe" (func $host_metric_observe (param $id i32) (param $v f64)))
(import "edge" "now_ms" (func $host_now_ms (result i64)))
(import "edge" "header" (func $host_header (param $response i32) (param $name i32) (param $len i32) (param $buf i32) (param $cap i32) (result i32)))
(import "edge" "config" (func $host_config (param $key i32) (param $len i32) (param $buf i32) (param $cap i32) (result i32)))
(import "edge" "kv_get" (func $host_kv_get (param $key i32) (param $len i32) (param $buf i32) (param $cap i32) (result i32)))
(import "edge" "tag_add" (func $host_tag_add (param $tag i32) (param $len i32) (result i32)))
