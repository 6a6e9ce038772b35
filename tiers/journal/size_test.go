//go:build !race

package journal_test

const (
	raceEnabled        = false
	crashImagesDefault = 10_000
	mutationsDefault   = 2_000
)
