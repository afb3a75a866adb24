'use strict'

const assert = require('node:assert/strict')
const { it } = require('node:test')

const { hush, redact } = require('../lib/quiet')

it('what Haraka prints of a header has no key in it', () => {
  const printed = []
  const logger = { lognotice: (text) => printed.push(text), logerror: (text) => printed.push(text), logwarn: null }
  const cache = {
    '/x/node_modules/haraka-email-message/lib/logger.js': { exports: logger },
    '/x/node_modules/other/lib/logger.js': { exports: { lognotice: null } },
    '/y/node_modules/haraka-email-message/lib/logger.js': undefined,
  }
  hush(cache)
  hush(cache)
  logger.lognotice('Header did not look right: X-Auth-Key : secret\n secret')
  logger.logerror('x-NEW-auth-key\t:secret')
  logger.lognotice('X-Auth-Key\r\n : secret')
  logger.lognotice('Header did not look right: junk')
  assert.deepEqual(printed, [
    'Header did not look right: X-Auth-Key : (left out)',
    'x-NEW-auth-key\t: (left out)',
    'X-Auth-Key\r\n : (left out)',
    'Header did not look right: junk',
  ])
  assert.equal(redact(7), '7')
})
