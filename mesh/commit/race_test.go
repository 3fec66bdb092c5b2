//go:build race

package commit

// raceEnabled: the race detector makes everything several times slower.
const raceEnabled = true
