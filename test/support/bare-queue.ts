/** A queue and messages in it without a broker around them, for tests of the lists that a queue is made of. */

import { Policies } from '../../broker/administration/policies.ts';
import { DefinitionLog } from '../../broker/definition-log.ts';
import type { FieldTable } from '../../broker/fields.ts';
import { memoryStore } from '../../broker/memory-store.ts';
import { createMessage } from '../../broker/message.ts';
import { Observers } from '../../broker/observer.ts';
import type { Queue } from '../../broker/queue/queue.ts';
import { QueuedMessage } from '../../broker/queue/queued-message.ts';
import { VirtualHost } from '../../broker/vhost.ts';
import { ManualClock } from './manual-clock.ts';

/** A queue in a virtual host of its own. */
export function bareQueue(args: FieldTable = {}): Queue {
  const context = {
    clock: new ManualClock(),
    store: memoryStore(),
    log: new DefinitionLog(),
    observers: new Observers(),
    policies: new Policies(),
    consumerTimeoutMs: 0,
  };
  return new VirtualHost({ name: '/' }, context).declareQueue({ queue: 'q', arguments: args }, undefined);
}

/** Custody of a message without content, at this place in the queue. */
export function queuedAt(queue: Queue, position: number, priority = 0): QueuedMessage {
  return new QueuedMessage(queue, createMessage({}), position, priority, Number.POSITIVE_INFINITY);
}
