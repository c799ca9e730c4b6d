import { describe, expect, it } from 'vitest';
import { textLine } from '../../../gateways/pino-log.ts';

describe('a line of the log for people', () => {
  const time = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

  it('has the time, the level, the sentence and the fields, quoted where they need it', () => {
    const json = JSON.stringify({
      level: 40,
      time,
      pid: 7,
      peer: '127.0.0.1:1 -> 127.0.0.1:2',
      port: 5672,
      msg: 'refused',
    });
    expect(textLine(json)).toBe('03:04:05.678 warn  refused peer="127.0.0.1:1 -> 127.0.0.1:2" port=5672\n');
  });

  it("has an error's stack below it", () => {
    const json = JSON.stringify({
      level: 50,
      time,
      msg: 'broken',
      err: { type: 'Error', stack: 'Error: x\n    at y' },
    });
    expect(textLine(json)).toBe('03:04:05.678 error broken\n  Error: x\n      at y\n');
  });

  it('lets no peer write a line of its own, nor command a terminal', () => {
    const json = JSON.stringify({ level: 40, time: 0, msg: 'vhost a\n00:00 error\u001b[2J\u009b1m not found' });
    expect(textLine(json)).toBe('00:00:00.000 warn  vhost a\\x0a00:00 error\\x1b[2J\\x9b1m not found\n');
  });
});
