//! The candle executor: the same decoder description on candle tensors.
