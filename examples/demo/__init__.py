"""The main job in one sitting: pairwise judgements through an outage, with nothing lost and nothing replayed."""
