/** How often to save inside a pass over videos: at every so many steps, or when so much time has passed since the last one. */
export type SaveInterval = { readonly steps: number } | { readonly ms: number };
