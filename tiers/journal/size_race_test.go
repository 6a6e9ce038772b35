//go:build race

package journal_test

const (
	raceEnabled        = true
	crashImagesDefault = 1_000
	mutationsDefault   = 300
)
