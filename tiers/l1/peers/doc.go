// Package peers compares the memory tier with caches that nothing else here needs.
// It is a module of its own, so that they are not among what the project depends on.
package peers
