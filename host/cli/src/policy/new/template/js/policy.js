// Protects names that are forged most: what comes in them without a right key is refused or kept back.
// Functions and types are those of the contract, sdk/policy.wit, with names such as checkSettings and mailAuth; a fact that is
// absent is null.

export const policy = {
  describe() {
    return {
      name: '{{name}}',
      version: '0.1.0',
      summary: 'Protects names that are forged most.',
      settings: [
        {
          name: 'protected',
          summary: 'whose names: addresses, or @domain',
          kind: { tag: 'texts', val: ['@bank.example', 'boss@ours.example'] },
        },
      ],
    };
  },

  // What it wants to see besides the result. It is told nothing else. What is thrown is the refusal of the settings.
  checkSettings([names]) {
    const wrong = names.val.find((name) => !name.includes('@'));
    if (wrong !== undefined) throw `protected: "${wrong}" is no address: write a@b.example, or @b.example`;
    return { facts: { sender: true, trail: true }, headers: [] };
  },

  decide(facts, [names]) {
    const isProtected = facts.sender !== null && isAmong(facts.sender, names.val);
    // Null: nobody knows. No mark: nothing tells of a list or a forwarder, which may lose a key.
    const direct = facts.trail !== null && !Object.values(facts.trail).some((mark) => mark);
    switch (facts.status) {
      case 'invalid':
        return isProtected
          ? decision('reject', 'a wrong key in a protected name', { recipient: true })
          : decision('mark', 'a wrong key');
      case 'missing':
        return isProtected && direct ? decision('quarantine', 'no key in a protected name') : decision('accept');
      default:
        return decision('accept');
    }
  },
};

function decision(disposition, reason = '', notify = {}) {
  return { disposition, notify, reason };
}

/** Whether the address is one of these, or of one of these domains. Letter case does not matter. */
function isAmong(sender, names) {
  return names.some((name) => {
    const at = name.lastIndexOf('@');
    const [local, domain] = [name.slice(0, at).toLowerCase(), name.slice(at + 1).toLowerCase()];
    return sender.domain.toLowerCase() === domain && (local === '' || sender.local.toLowerCase() === local);
  });
}
