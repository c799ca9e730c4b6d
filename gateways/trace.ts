/**
 * One line per frame in and out, to see what goes over the wire: `NODE_DEBUG=warren:amqp` (or `warren:stomp`,
 * `warren:*`, …). Off, it costs the test of one boolean per frame.
 */
import { debuglog } from 'node:util';

interface Trace {
  /** Ask this first: it spares the making of the line. */
  readonly enabled: boolean;
  /** `<` came in, `>` went out. */
  line(direction: '<' | '>', connection: string, frame: string): void;
}

/** The trace of one door, decided once from the environment. */
export function createTrace(door: string): Trace {
  const log = debuglog(`warren:${door}`);
  return {
    enabled: log.enabled,
    line: (direction, connection, frame) => log('%s %s %s', connection, direction, frame),
  };
}
