module github.com/edgenode/edgenode/tiers/l1/peers

go 1.26.0

replace github.com/edgenode/edgenode => ../../..

require (
	github.com/VictoriaMetrics/fastcache v1.13.0
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/coocood/freecache v1.2.4
	github.com/edgenode/edgenode v0.0.0
)

require (
	github.com/VictoriaMetrics/metrics v1.44.0 // indirect
	github.com/golang/snappy v1.0.0 // indirect
	github.com/valyala/fastrand v1.1.0 // indirect
	github.com/valyala/histogram v1.2.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
