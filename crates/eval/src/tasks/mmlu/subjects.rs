//! The 57 subjects and their groups, as lm-evaluation-harness 0.4.13 tags them (a table).

/// The four groups.
pub const GROUPS: [&str; 4] = ["stem", "humanities", "social_sciences", "other"];

/// The article's ten subjects: a Quick run.
pub const QUICK_SUBJECTS: [&str; 10] = [
    "abstract_algebra",
    "computer_security",
    "elementary_mathematics",
    "high_school_physics",
    "high_school_chemistry",
    "logical_fallacies",
    "machine_learning",
    "professional_law",
    "world_religions",
    "us_foreign_policy",
];

/// Subject and group, in alphabetical order of the subjects.
pub const SUBJECTS: [(&str, &str); 57] = [
    ("abstract_algebra", "stem"),
    ("anatomy", "stem"),
    ("astronomy", "stem"),
    ("business_ethics", "other"),
    ("clinical_knowledge", "other"),
    ("college_biology", "stem"),
    ("college_chemistry", "stem"),
    ("college_computer_science", "stem"),
    ("college_mathematics", "stem"),
    ("college_medicine", "other"),
    ("college_physics", "stem"),
    ("computer_security", "stem"),
    ("conceptual_physics", "stem"),
    ("econometrics", "social_sciences"),
    ("electrical_engineering", "stem"),
    ("elementary_mathematics", "stem"),
    ("formal_logic", "humanities"),
    ("global_facts", "other"),
    ("high_school_biology", "stem"),
    ("high_school_chemistry", "stem"),
    ("high_school_computer_science", "stem"),
    ("high_school_european_history", "humanities"),
    ("high_school_geography", "social_sciences"),
    ("high_school_government_and_politics", "social_sciences"),
    ("high_school_macroeconomics", "social_sciences"),
    ("high_school_mathematics", "stem"),
    ("high_school_microeconomics", "social_sciences"),
    ("high_school_physics", "stem"),
    ("high_school_psychology", "social_sciences"),
    ("high_school_statistics", "stem"),
    ("high_school_us_history", "humanities"),
    ("high_school_world_history", "humanities"),
    ("human_aging", "other"),
    ("human_sexuality", "social_sciences"),
    ("international_law", "humanities"),
    ("jurisprudence", "humanities"),
    ("logical_fallacies", "humanities"),
    ("machine_learning", "stem"),
    ("management", "other"),
    ("marketing", "other"),
    ("medical_genetics", "other"),
    ("miscellaneous", "other"),
    ("moral_disputes", "humanities"),
    ("moral_scenarios", "humanities"),
    ("nutrition", "other"),
    ("philosophy", "humanities"),
    ("prehistory", "humanities"),
    ("professional_accounting", "other"),
    ("professional_law", "humanities"),
    ("professional_medicine", "other"),
    ("professional_psychology", "social_sciences"),
    ("public_relations", "social_sciences"),
    ("security_studies", "social_sciences"),
    ("sociology", "social_sciences"),
    ("us_foreign_policy", "social_sciences"),
    ("virology", "other"),
    ("world_religions", "humanities"),
];

/// The group of a subject, `None` if it is not one of the 57.
pub fn group_of(subject: &str) -> Option<&'static str> {
    SUBJECTS
        .binary_search_by(|(name, _)| (*name).cmp(subject))
        .ok()
        .map(|i| SUBJECTS[i].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_the_subjects_of_the_harness() {
        let sizes = GROUPS.map(|g| SUBJECTS.iter().filter(|(_, group)| *group == g).count());
        assert_eq!(sizes, [19, 13, 12, 13]);
        assert!(SUBJECTS.is_sorted());
        assert!(QUICK_SUBJECTS.iter().all(|s| group_of(s).is_some()));
        assert_eq!(group_of("professional_law"), Some("humanities"));
        assert_eq!(group_of("astrology"), None);
    }
}
