"""Knowledge distillation from out-of-domain data, one small script per DVC stage."""
