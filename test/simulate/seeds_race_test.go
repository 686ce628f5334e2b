//go:build race

package simulate

// usualSeeds is for what the race detector can find; it makes a seed many times as
// dear.
const usualSeeds = 100
