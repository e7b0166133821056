import { defineSignal, type Signal } from './define-signal.js';

/**
 * [H, S, S] the attention maps of a layer whole, the class token first where there is one. For backends that
 * reduce them; methods read what is reduced.
 */
export const attentionMap: Signal<'vision-layer'> = defineSignal({
  name: 'attentionMap',
  of: 'vision-layer',
  shape: ['H', 'S', 'S'],
  range: 'non-negative',
  carry: 'never',
});
