// The bridge from topics to Svelte: reading inside a component subscribes exactly that component to that topic.
import { createSubscriber } from 'svelte/reactivity';
import type { Topics } from './topics';

export class Live {
  #subscribers = new Map<string, () => void>();

  constructor(private readonly topics: Topics) {}

  /** Makes the running effect depend on a topic. */
  on(topic: string): void {
    let subscribe = this.#subscribers.get(topic);
    if (!subscribe) {
      subscribe = createSubscriber((update) => {
        const stop = this.topics.listen(topic, update);
        return () => {
          stop();
          this.#subscribers.delete(topic);
        };
      });
      this.#subscribers.set(topic, subscribe);
    }
    subscribe();
  }
}
