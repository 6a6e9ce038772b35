//go:build !soak

package faults_test

import "time"

const (
	repeats  = 1
	duration = 700 * time.Millisecond // of a fault
)
