"""Many experts, few GPUs: which of the models that share memory is awake, which one sleeps, and when it is worth to switch."""
