package servicebus

// Limit bounds the batches of the topic, in bytes.
func (t *EventTopic) Limit(most uint64) { t.most = most }
