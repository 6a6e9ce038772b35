// Package faults shows the engine real servers that fail: redis-server and
// MariaDB, each behind a proxy that delays, cuts, hangs and starves connections,
// or stopped and killed itself. It is a module of its own, so that the proxy is no
// dependency of the rest. The tests are all there is.
//
//	cd tiers/tiertest/faults && go test .              one of each fault
//	cd tiers/tiertest/faults && go test -tags soak .   ten of each, 30 s long
package faults
