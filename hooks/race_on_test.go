//go:build race

package hooks_test

// raceShare divides the sizes of campaigns that are about size.
const raceShare = 10
