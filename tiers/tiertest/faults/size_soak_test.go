//go:build soak

package faults_test

import "time"

const (
	repeats  = 10
	duration = 30 * time.Second // of a fault
)
