//! The registry of job templates behind one [`Templates::resolve`].
//!
//! Invariants: every job type has exactly one shipped template, compiled in; a template's
//! reference (`namespace/name@version`) never changes its meaning, since jobs keep it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_protocol::job::JobType;

use crate::domain::Template;

const SHIPPED: [(&str, &str); 10] = [
    ("env-cache-toggle.yaml", include_str!("../templates/env-cache-toggle.yaml")),
    ("cache-purge.yaml", include_str!("../templates/cache-purge.yaml")),
    ("env-check.yaml", include_str!("../templates/env-check.yaml")),
    ("env-delete.yaml", include_str!("../templates/env-delete.yaml")),
    ("cache-warm.yaml", include_str!("../templates/cache-warm.yaml")),
    ("cache-facts.yaml", include_str!("../templates/cache-facts.yaml")),
    ("cache-explain.yaml", include_str!("../templates/cache-explain.yaml")),
    ("stack-sync.yaml", include_str!("../templates/stack-sync.yaml")),
    ("stack-down.yaml", include_str!("../templates/stack-down.yaml")),
    ("stack-plan.yaml", include_str!("../templates/stack-plan.yaml")),
];

/// Every template there is; cheap to clone.
#[derive(Debug, Clone)]
pub struct Templates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    by_name: BTreeMap<(String, String), Arc<Template>>,
    by_reference: BTreeMap<String, Arc<Template>>,
    toggle: Arc<Template>,
    purge: Arc<Template>,
    check: Arc<Template>,
    delete: Arc<Template>,
    warm: Arc<Template>,
    facts: Arc<Template>,
    explain: Arc<Template>,
    sync: Arc<Template>,
    down: Arc<Template>,
    plan: Arc<Template>,
}

/// Why the registry cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A template is not of the expected shape.
    #[error("the template {file} cannot be read")]
    Parse {
        file: &'static str,
        #[source]
        source: serde_norway::Error,
    },
    /// A job type nobody can run.
    #[error("no template for jobs of type {}", job_type.as_str())]
    Missing { job_type: JobType },
    /// Two templates of one name or for one job type.
    #[error("two templates claim {what}")]
    Twice { what: String },
}

impl Templates {
    /// The templates that come with this build.
    ///
    /// # Errors
    /// [`TemplateError`] if one is unreadable, missing or there twice.
    pub fn shipped() -> Result<Self, TemplateError> {
        let mut by_name = BTreeMap::new();
        let mut by_reference = BTreeMap::new();
        let mut by_type = BTreeMap::new();
        for (file, text) in SHIPPED {
            let template: Template = serde_norway::from_str(text)
                .map_err(|source| TemplateError::Parse { file, source })?;
            let template = Arc::new(template);
            let name = (template.namespace.clone(), template.name.clone());
            by_reference.insert(template.reference(), Arc::clone(&template));
            if by_type.insert(template.job_type, Arc::clone(&template)).is_some()
                || by_name.insert(name, Arc::clone(&template)).is_some()
            {
                return Err(TemplateError::Twice { what: template.reference() });
            }
        }
        let mut of =
            |job_type| by_type.remove(&job_type).ok_or(TemplateError::Missing { job_type });
        let inner = Inner {
            toggle: of(JobType::EnvCacheToggle)?,
            purge: of(JobType::CachePurge)?,
            check: of(JobType::EnvCheck)?,
            delete: of(JobType::EnvDelete)?,
            warm: of(JobType::CacheWarm)?,
            facts: of(JobType::CacheFacts)?,
            explain: of(JobType::CacheExplain)?,
            sync: of(JobType::StackSync)?,
            down: of(JobType::StackDown)?,
            plan: of(JobType::StackPlan)?,
            by_name,
            by_reference,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The current version of a template.
    #[must_use]
    pub fn resolve(&self, namespace: &str, name: &str) -> Option<Arc<Template>> {
        self.inner.by_name.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The very version a job keeps (`namespace/name@version`).
    #[must_use]
    pub fn by_reference(&self, reference: &str) -> Option<Arc<Template>> {
        self.inner.by_reference.get(reference).cloned()
    }

    /// The template new jobs of a type run.
    #[must_use]
    pub fn for_type(&self, job_type: JobType) -> Arc<Template> {
        Arc::clone(match job_type {
            JobType::EnvCacheToggle => &self.inner.toggle,
            JobType::CachePurge => &self.inner.purge,
            JobType::EnvCheck => &self.inner.check,
            JobType::EnvDelete => &self.inner.delete,
            JobType::CacheWarm => &self.inner.warm,
            JobType::CacheFacts => &self.inner.facts,
            JobType::CacheExplain => &self.inner.explain,
            JobType::StackSync => &self.inner.sync,
            JobType::StackDown => &self.inner.down,
            JobType::StackPlan => &self.inner.plan,
        })
    }

    /// The version a job keeps or, where an older build's is no longer shipped, the current one
    /// of its type.
    #[must_use]
    pub fn for_job(&self, reference: &str, job_type: JobType) -> Arc<Template> {
        self.by_reference(reference)
            .filter(|template| template.job_type == job_type)
            .unwrap_or_else(|| self.for_type(job_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::LaneKind;

    #[test]
    fn every_job_type_has_a_shipped_template() {
        let templates = Templates::shipped().unwrap();
        for job_type in JobType::ALL {
            let template = templates.for_type(job_type);
            assert_eq!(template.job_type, job_type);
            assert!(template.timeout_secs > 0 && template.ttl_secs > 0, "{template:?}");
            assert_eq!(
                templates.resolve(&template.namespace, &template.name),
                Some(template.clone())
            );
            assert_eq!(templates.by_reference(&template.reference()), Some(template));
        }
        assert_eq!(templates.resolve("core", "no-such"), None);
    }

    #[test]
    fn only_what_changes_the_host_has_a_lane() {
        let templates = Templates::shipped().unwrap();
        for job_type in JobType::ALL {
            let expected = match job_type {
                JobType::EnvCacheToggle | JobType::CachePurge => LaneKind::Environment,
                JobType::EnvDelete => LaneKind::All,
                JobType::CacheWarm => LaneKind::Warm,
                JobType::StackSync | JobType::StackDown => LaneKind::Stack,
                JobType::EnvCheck
                | JobType::CacheFacts
                | JobType::CacheExplain
                | JobType::StackPlan => LaneKind::None,
            };
            assert_eq!(templates.for_type(job_type).lane, expected, "{}", job_type.as_str());
        }
    }
}
