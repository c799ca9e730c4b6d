/** Every protocol of the crossing matrix: a row and a column each. */
import { AMQP } from './amqp.ts';
import type { Protocol } from './protocol.ts';
import { STOMP } from './stomp.ts';
import { XMPP } from './xmpp.ts';

export const PROTOCOLS: readonly Protocol[] = [AMQP, STOMP, XMPP];
