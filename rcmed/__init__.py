"""Medical images asked in words: findings with masks, presence and measurements."""
