/** How often to save during a pass over videos: every `steps` steps, or when `ms` milliseconds have passed since the last save. */
export type SaveInterval = { readonly steps: number } | { readonly ms: number };
