//! One attempt: account, order, validation, certificate (RFC 8555, 7.1).
//!
//! Called by [`super::keeper`]. Before the authority looks for us, the attempt is counted durably.
//! Must never use more than one name, nor answer for it longer than the authority looks.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tracing::info;

use super::{
    Keeper,
    carrier::{Line, Unanswered},
    state::{AccountFile, StateError},
};
use crate::{
    proxy::Said,
    roles::PairText,
    serve::{
        chain,
        tls::{PairError, Validation, ValidationError},
    },
};

/// The authority has this long to look for us, and this long to make the certificate: it may look
/// from several places, one after the other.
const STEP_MAX: Duration = Duration::from_secs(120);
/// The authority says how often it wants to be asked; else so: first after a second.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_secs(1))
    .backoff(1.5)
    .timeout(STEP_MAX);
/// What an authority says of an account that it does not have (RFC 8555, 6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
/// Begin of the names of its reasons.
const REASONS: &str = "urn:ietf:params:acme:error:";

/// Why an attempt has failed; what was in use still is.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// The account is not the authority's any more: the next attempt makes another.
    #[error("the authority does not know our account")]
    NoAccount,
    /// In the words of the authority.
    #[error("the authority refuses: {0}")]
    Refused(String),
    /// In the words of the authority.
    #[error("the authority has not found this service as `{name}`, port 443: {said}")]
    NotFound {
        /// For which a certificate was asked.
        name: String,
        /// What it saw.
        said: String,
    },
    /// It has none of our way of validation.
    #[error("the authority offers no tls-alpn-01 for `{0}`, the only proof that is given here")]
    Challenge(String),
    /// It was not asked, or somebody else answered.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// It works on it for longer than anybody waits.
    #[error("the authority has not finished in {} s", .0.as_secs())]
    Slow(Duration),
    /// No message of the protocol.
    #[error("the authority's answer is not understood: {0}")]
    Garbage(Said),
    /// Visitors would refuse it.
    #[error("what the authority has given is not used: {0}")]
    Pair(#[from] PairError),
    /// The disk.
    #[error("{}", chain(.0))]
    State(#[from] StateError),
    /// The certificate of the challenge.
    #[error("{}", chain(.0))]
    Validation(#[from] ValidationError),
    /// Key or request.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => Self::NoAccount,
            Error::Api(problem) => Self::Refused(words(&problem)),
            Error::Timeout(_) => Self::Slow(STEP_MAX),
            Error::Other(cause) => match cause.downcast::<Unanswered>() {
                Ok(unanswered) => Self::Unanswered(*unanswered),
                Err(other) => Self::Garbage(Said::first_line(other.to_string().as_bytes())),
            },
            other => Self::Garbage(Said::first_line(other.to_string().as_bytes())),
        }
    }
}

/// What the authority says, on one line: `rateLimited: too many …`.
fn words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = Said::first_line(kind.trim_start_matches(REASONS).as_bytes());
    let inner = problem.subproblems.first();
    let inner = inner.and_then(|inner| inner.detail.as_deref());
    let detail = problem.detail.as_deref().or(inner).unwrap_or("no reason");
    format!("{kind}: {}", Said::first_line(detail.as_bytes()))
}

impl Keeper {
    /// Gets a certificate.
    pub(super) async fn order(&mut self, line: &Line) -> Result<PairText, OrderError> {
        let account = self.account(line).await?;
        let names = [Identifier::Dns(self.name().to_owned())];
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let validation = self.authorize(&mut order).await?;
        let status = order.poll_ready(&POLLING).await;
        drop(validation);
        let said = match status {
            Ok(OrderStatus::Ready | OrderStatus::Valid) => None,
            Ok(_) => Some(seen(&mut order).await?),
            Err(Error::Api(problem)) if order.state().status == OrderStatus::Invalid => {
                Some(words(&problem))
            }
            Err(other) => return Err(other.into()),
        };
        if let Some(said) = said {
            let name = self.name().to_owned();
            return Err(OrderError::NotFound { name, said });
        }
        // A key of its own for each certificate.
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![self.name().to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&POLLING).await?;
        Ok(PairText {
            chain,
            key: key.serialize_pem(),
        })
    }

    /// The account at the authority, made when there is none.
    async fn account(&mut self, line: &Line) -> Result<Account, OrderError> {
        let builder = Account::builder_with_http(Box::new(line.clone()));
        let contact = self.contact();
        let contacts: Vec<&str> = contact.as_deref().into_iter().collect();
        let garbage = |error: serde_json::Error| OrderError::from(Error::from(error));
        let Some(kept) = self.kept_account().cloned() else {
            let new = NewAccount {
                contact: &contacts,
                terms_of_service_agreed: true,
                only_return_existing: false,
            };
            let made = builder.create(&new, self.directory().to_string(), None);
            let (account, credentials) = made.await?;
            let kept = AccountFile::new(contact, &credentials).map_err(garbage)?;
            self.keep_account(kept)?;
            info!("there is an account at {} now", self.directory().host());
            return Ok(account);
        };
        let is_told = kept.contact == contact;
        let credentials = kept.credentials().map_err(garbage)?;
        let account = builder.from_credentials(credentials).await?;
        if !is_told {
            account.update_contacts(&contacts).await?;
            self.keep_account(AccountFile { contact, ..kept })?;
        }
        Ok(account)
    }

    /// Has the authority look for us, unless it did so before and still believes it.
    async fn authorize(&mut self, order: &mut Order) -> Result<Option<Validation>, OrderError> {
        let mut all = order.authorizations();
        let Some(one) = all.next().await else {
            return Ok(None);
        };
        let mut one = one?;
        if one.status != AuthorizationStatus::Pending {
            return Ok(None); // valid; or it makes the order invalid, which is told there
        }
        let Some(mut challenge) = one.challenge(ChallengeType::TlsAlpn01) else {
            return Err(OrderError::Challenge(self.name().to_owned()));
        };
        let digest = challenge.key_authorization().digest();
        let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let validation = self.tls().validate(self.name(), digest)?;
        self.count_validation()?; // before it happens: a crash must not forget it
        challenge.set_ready().await?;
        Ok(Some(validation))
    }
}

/// What the authority saw instead of us.
async fn seen(order: &mut Order) -> Result<String, OrderError> {
    let mut all = order.authorizations();
    let Some(one) = all.next().await else {
        return Ok("no reason".to_owned());
    };
    let mut one = one?;
    let state = one.refresh().await?;
    let errors = state.challenges.iter().filter_map(|one| one.error.as_ref());
    let error = errors.into_iter().next();
    Ok(error.map_or_else(|| "no reason".to_owned(), words))
}
