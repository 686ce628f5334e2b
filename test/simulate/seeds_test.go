//go:build !race

package simulate

// usualSeeds takes about 50 seconds of two processors.
const usualSeeds = 1200
