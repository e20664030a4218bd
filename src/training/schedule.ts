export interface ScheduleOptions {
  readonly learning_rate: number;
  readonly learning_rate_decay: number;
  readonly lr_boundary_examples: number;
  readonly batch_size: number;
}

/** The learning rate of a step counted from 0: learning_rate * decay^i, i = floor(step / floor(lr_boundary_examples / batch_size)) (PaddleVideo v1.5.1). */
export function learningRateAt(step: number, options: ScheduleOptions): number {
  const stepsPerDecay = Math.max(1, Math.floor(options.lr_boundary_examples / options.batch_size));
  return options.learning_rate * options.learning_rate_decay ** Math.floor(step / stepsPerDecay);
}
