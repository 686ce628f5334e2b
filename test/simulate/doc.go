// Package simulate plays the real use cases under an adversary.
package simulate
