//go:build !race

package hooktest_test

const raceDetector = false
