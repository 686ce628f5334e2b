//go:build !race

package simulate

// usualSeeds takes about 40 seconds of two processors.
const usualSeeds = 1200
