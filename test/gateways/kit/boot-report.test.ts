import { describe, expect, it } from 'vitest';
import { doorLine } from '../../../gateways/boot-report.ts';

const guest = { user: 'guest', vhost: '/' };

describe('the line of a door', () => {
  it.each([
    ['amqp', '127.0.0.1', 'amqp   127.0.0.1:5672    try: node examples/hello.mjs amqp://127.0.0.1:5672'],
    ['amqp', '0.0.0.0', 'amqp   0.0.0.0:5672      try: node examples/hello.mjs amqp://127.0.0.1:5672'],
    ['amqp', '::', "amqp   [::]:5672         try: node examples/hello.mjs 'amqp://[::1]:5672'"],
    ['amqps', '127.0.0.1', 'amqps  127.0.0.1:5672    try: openssl s_client -brief -connect 127.0.0.1:5672'],
    [
      'stomp',
      '127.0.0.1',
      String.raw`stomp  127.0.0.1:5672    try: node -e "net.connect(5672, '127.0.0.1').end('CONNECT\nlogin:guest\npasscode:guest\n\n\0').pipe(process.stdout)"`,
    ],
    ['ws', '127.0.0.1', 'ws     127.0.0.1:5672    try: node examples/hello.mjs ws://127.0.0.1:5672/ws'],
    ['wss', '127.0.0.1', 'wss    127.0.0.1:5672    try: curl --insecure https://127.0.0.1:5672/'],
  ])('%s on %s', (label, host, line) => {
    expect(doorLine({ label, host, port: 5672 }, guest)).toBe(line);
  });

  it('logs in as the first user, without showing the password', () => {
    const line = (label: string) => doorLine({ label, host: '127.0.0.1', port: 1 }, { user: 'a&b', vhost: 'my shop' });
    expect(line('amqp')).toContain('node examples/hello.mjs amqp://a%26b:PASSWORD@127.0.0.1:1/my%20shop');
    expect(line('ws')).toContain("node examples/hello.mjs 'ws://a%26b:PASSWORD@127.0.0.1:1/ws?vhost=my%20shop'");
    expect(line('stomp')).toContain(String.raw`.end('CONNECT\nlogin:USER\npasscode:PASSWORD\nhost:VHOST\n\n\0')`);
  });
});
