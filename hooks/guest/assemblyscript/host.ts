// Host functions, as hooks/abi/ABI.md has them: addresses and lengths of bytes. Each
// costs fuel; after now_ms, header or kv_get a verdict is not reusable. Import only
// those that are used.

// @ts-ignore: decorator
@external("edge", "log") export declare function log(level: u32, text: usize, len: u32): void;
// @ts-ignore: decorator
@external("edge", "metric_add") export declare function metricAdd(id: u32, n: i64): void;
// @ts-ignore: decorator
@external("edge", "metric_observe") export declare function metricObserve(id: u32, v: f64): void;
// @ts-ignore: decorator
@external("edge", "now_ms") export declare function nowMs(): u64;
// @ts-ignore: decorator
@external("edge", "header") export declare function header(response: u32, name: usize, len: u32, buf: usize, cap: u32): i32;
// @ts-ignore: decorator
@external("edge", "config") export declare function config(key: usize, len: u32, buf: usize, cap: u32): i32;
// @ts-ignore: decorator
@external("edge", "kv_get") export declare function kvGet(key: usize, len: u32, buf: usize, cap: u32): i32;
// @ts-ignore: decorator
@external("edge", "tag_add") export declare function tagAdd(tag: usize, len: u32): i32;
