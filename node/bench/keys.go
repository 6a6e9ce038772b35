package main

import (
	"math"
	"math/rand/v2"
	"sort"
)

// uniformKeys returns n draws from [0, keys).
func uniformKeys(keys, n int) []int {
	r := rand.New(rand.NewPCG(1, 1))
	list := make([]int, n)
	for i := range list {
		list[i] = r.IntN(keys)
	}
	return list
}

// zipfKeys returns n draws from [0, keys) in proportion to 1/rank^0.99, scattered
// over the keys.
func zipfKeys(keys, n int) []int {
	sums, total := make([]float64, keys), 0.0
	for i := range sums {
		total += math.Pow(float64(i+1), -0.99)
		sums[i] = total
	}
	r := rand.New(rand.NewPCG(2, 2))
	scattered := r.Perm(keys)
	list := make([]int, n)
	for i := range list {
		list[i] = scattered[sort.SearchFloat64s(sums, r.Float64()*total)]
	}
	return list
}
