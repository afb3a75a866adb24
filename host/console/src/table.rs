//! Every page with its path, its method and the roles that may ask for it: the one place that decides who may what.

use addrauth::store::Role;

use Role::{Admin, Domain, Reader, User};

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each has the name of its path")]
pub enum Page {
    Asset,
    Login,
    LoginTry,
    LinkAsk,
    LinkShow,
    LinkUse,
    Logout,
    Home,
    Overview,
    Messages,
    Message,
    MessageWant,
    Quarantine,
    Held,
    HeldAct,
    Users,
    UserPage,
    UserChoices,
    UserSenders,
    UserRules,
    RulesCheck,
    Me,
    MeMessages,
    MeQuarantine,
    MeChoices,
    MeSenders,
    MeRules,
    Policies,
    Policy,
    PolicyRules,
    PolicyPlace,
    Candidate,
    CandidatePut,
    Try,
    TryMessage,
    Keys,
    DomainPage,
    Doctor,
    Acts,
}

/// Whether something is only looked at, or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It changes nothing.
    Get,
    /// It needs the token of a form.
    Post,
}

/// Who may ask for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Also who is not signed in.
    Anyone,
    /// Who has one of these roles.
    Only(&'static [Role]),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is answered.
    pub page: Page,
    /// Under which method.
    pub way: Way,
    /// Under which path.
    pub path: &'static str,
    /// To whom.
    pub may: May,
    /// The word that leads there from every page; empty: none does.
    pub link: &'static str,
}

const EVERY: May = May::Only(&[Admin, Domain, Reader, User]);
const LOOKS: May = May::Only(&[Admin, Domain, Reader]);
const SITE: May = May::Only(&[Admin, Reader]);
const KEEPS: May = May::Only(&[Admin, Domain]);
const READS: May = May::Only(&[Admin, Domain, User]);
const OWN: May = May::Only(&[User]);
const ADMIN: May = May::Only(&[Admin]);

const fn get(page: Page, path: &'static str, may: May, link: &'static str) -> Row {
    Row { page, way: Way::Get, path, may, link }
}

const fn post(page: Page, path: &'static str, may: May) -> Row {
    Row { page, way: Way::Post, path, may, link: "" }
}

/// All pages. What is not here is not found.
pub const TABLE: &[Row] = &[
    get(Page::Asset, "/assets/{file}", May::Anyone, ""),
    get(Page::Login, "/login", May::Anyone, ""),
    post(Page::LoginTry, "/login", May::Anyone),
    post(Page::LinkAsk, "/login/link", May::Anyone),
    get(Page::LinkShow, "/l/{token}", May::Anyone, ""),
    post(Page::LinkUse, "/l/{token}", May::Anyone),
    post(Page::Logout, "/logout", EVERY),
    get(Page::Home, "/", EVERY, ""),
    get(Page::Overview, "/overview", SITE, "Overview"),
    get(Page::Messages, "/messages", LOOKS, "Messages"),
    get(Page::Message, "/messages/{id}", EVERY, ""),
    post(Page::MessageWant, "/messages/{id}/want", READS),
    get(Page::Quarantine, "/quarantine", LOOKS, "Quarantine"),
    get(Page::Held, "/quarantine/{id}", READS, ""),
    post(Page::HeldAct, "/quarantine", READS),
    get(Page::Users, "/users", KEEPS, "Users"),
    get(Page::UserPage, "/users/{address}", KEEPS, ""),
    post(Page::UserChoices, "/users/{address}/choices", KEEPS),
    post(Page::UserSenders, "/users/{address}/senders", KEEPS),
    post(Page::UserRules, "/users/{address}/rules", KEEPS),
    post(Page::RulesCheck, "/rules/check", READS),
    get(Page::Me, "/me", OWN, "My choices"),
    get(Page::MeMessages, "/me/messages", OWN, "My mail"),
    get(Page::MeQuarantine, "/me/quarantine", OWN, "Kept back"),
    post(Page::MeChoices, "/me/choices", OWN),
    post(Page::MeSenders, "/me/senders", OWN),
    post(Page::MeRules, "/me/rules", OWN),
    get(Page::Policies, "/policies", LOOKS, "Policies"),
    get(Page::Policy, "/policies/{id}", LOOKS, ""),
    post(Page::PolicyRules, "/policies/{id}", SITE),
    get(Page::Candidate, "/policies/{id}/candidate", SITE, ""),
    post(Page::CandidatePut, "/policies/{id}/candidate", ADMIN),
    post(Page::PolicyPlace, "/policies/{id}/place", ADMIN),
    get(Page::Try, "/try", SITE, "Try"),
    post(Page::TryMessage, "/try", SITE),
    get(Page::Keys, "/keys", LOOKS, "Domain and keys"),
    get(Page::DomainPage, "/keys/{domain}", LOOKS, ""),
    get(Page::Doctor, "/doctor", SITE, "Doctor"),
    get(Page::Acts, "/acts", ADMIN, "Who did what"),
];

impl May {
    /// Whether this role may; absent: nobody is signed in.
    pub fn includes(self, role: Option<Role>) -> bool {
        match (self, role) {
            (May::Anyone, _) => true,
            (May::Only(roles), Some(role)) => roles.contains(&role),
            (May::Only(_), None) => false,
        }
    }
}

/// Whether this role may ask for a page at all: what leads there is shown.
pub fn may(role: Role, page: Page) -> bool {
    TABLE.iter().any(|row| row.page == page && row.may.includes(Some(role)))
}
